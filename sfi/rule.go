package sfi

import "fmt"

// Rule names the part of the policy that a blob breaks. docs/sfi.md has a paragraph on each of them.
type Rule uint8

const (
	// Rules on the bytes of one instruction.

	RuleForm       Rule = 1 + iota // no such form on the allow-list: undefined, undocumented, too long, or not looked at yet
	RuleTruncated                  // the instruction runs over the end of the blob
	RulePrefix                     // a prefix that is refused, duplicated, misplaced, or without meaning there
	RuleLock                       // LOCK on a form that does not take it
	RuleRSP                        // RSP as an operand: it is the context block's address and nothing else
	RuleRBP                        // in Linux: RBP as anything but the base of a poll or a touch
	RulePrivileged                 // privileged instructions and port I/O
	RuleSystem                     // enters or reconfigures the host's kernel, or a system register
	RuleStack                      // implicit stack access
	RuleIndirect                   // indirect transfers of control, returns, far transfers
	RuleSegment                    // a segment prefix other than GS (in Linux: any), or anything that names a segment register
	RuleFlags                      // could set the direction flag
	RuleVector                     // needs more vector state than the blob's level has; XOP, 3DNow!
	RuleX87                        // x87 and MMX state
	RuleTSX                        // transactions
	RuleString                     // string instructions other than MOVS and STOS
	RuleBits                       // bit string in memory with a register offset
	RuleHidden                     // accesses an address that no ModRM byte names
	RuleCache                      // prefetches, cache control
	RuleTrap                       // traps, or differs under virtualization

	// Rules on memory operands.

	RuleMemory  // the operand has none of the allowed shapes
	RuleSlot    // context block: outside the slots and not a poll, straddling two, or writing a read-only one
	RuleAddress // the address is not proved to lie in program memory
	RuleTouch   // the touch pattern with an index that is not proved to be a tag
	RuleCount   // REP with a count that is not proved to be small

	// Rules on control flow.

	RulePoll     // SlotPoll is read: it is Dispatch's
	RuleTarget   // a jump to something that is neither an instruction of the blob nor a symbol
	RuleBackward // a backward jump that does not land on a poll
	RuleEnd      // execution could run off the end of the blob
	RuleEntry    // an entry that is not the start of an instruction, or in Linux not an ENDBR64
	RuleLoops    // loops that depend on each other in too many ways for the dataflow

	RuleFault // an instruction that may fault, for which the runtime has no fault record

	RuleInput // the arguments: empty or oversized blob, address outside the half that is the code's

	numRules
)

var ruleNames = [numRules]string{
	RuleForm: "form", RuleTruncated: "truncated", RulePrefix: "prefix", RuleLock: "lock",
	RuleRSP: "rsp", RuleRBP: "rbp", RulePrivileged: "privileged", RuleSystem: "system", RuleStack: "stack", RuleIndirect: "indirect",
	RuleSegment: "segment", RuleFlags: "flags", RuleVector: "vector", RuleX87: "x87", RuleTSX: "tsx",
	RuleString: "string", RuleBits: "bits", RuleHidden: "hidden", RuleCache: "cache", RuleTrap: "trap",
	RuleMemory: "memory", RuleSlot: "slot", RuleAddress: "address", RuleTouch: "touch", RuleCount: "count",
	RulePoll: "poll", RuleTarget: "target", RuleBackward: "backward", RuleEnd: "end", RuleEntry: "entry", RuleFault: "fault",
	RuleLoops: "loops", RuleInput: "input",
}

// String returns the rule's name as docs/sfi.md has it.
func (r Rule) String() string {
	if r == 0 || r >= numRules {
		return fmt.Sprintf("rule(%d)", uint8(r))
	}
	return ruleNames[r]
}

// Error says why a blob was refused: at which offset, by which rule, and what exactly was seen there.
type Error struct {
	Off    uint32 // of the offending instruction (of the entry, for RuleEntry) in the code
	Rule   Rule
	Detail string
}

// Error is one line.
func (e *Error) Error() string {
	return fmt.Sprintf("sfi: +%#x: %s: %s", e.Off, e.Rule, e.Detail)
}

func refuse(off uint32, rule Rule, format string, args ...any) *Error {
	if len(args) == 0 {
		return &Error{Off: off, Rule: rule, Detail: format}
	}
	return &Error{Off: off, Rule: rule, Detail: fmt.Sprintf(format, args...)}
}
