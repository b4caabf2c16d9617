// Package programs holds the end-to-end tests: unmodified programs run natively, in the sandbox without bypass, and in the
// sandbox with bypass, and must not be able to tell the difference. There is no code here but tests.
package programs
