package launch

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"ub/sentry/statfile"
)

// Tunables lists the names that Tune takes, in the order of statfile.Config, with their values in c.
func Tunables(c statfile.Config) []string {
	v := reflect.ValueOf(c)
	var out []string
	for i := range v.NumField() {
		out = append(out, fmt.Sprintf("%s=%d", kebab(v.Type().Field(i).Name), v.Field(i).Uint()))
	}
	return out
}

// Tune sets the field of c that setting, NAME=NUMBER, names: the field's name in lower case with dashes. With an error, c is unchanged.
func Tune(c *statfile.Config, setting string) error {
	name, value, ok := strings.Cut(setting, "=")
	if !ok {
		return fmt.Errorf("%q: write NAME=NUMBER", setting)
	}
	n, err := strconv.ParseUint(value, 0, 64)
	if err != nil {
		return fmt.Errorf("%q: %q is no number", setting, value)
	}
	changed := *c
	v := reflect.ValueOf(&changed).Elem()
	for i := range v.NumField() {
		if kebab(v.Type().Field(i).Name) != name {
			continue
		}
		v.Field(i).SetUint(n)
		if err := changed.Check(); err != nil {
			return err
		}
		*c = changed
		return nil
	}
	return fmt.Errorf("%q: there is no such setting; these are, with their defaults: %s", setting, strings.Join(Tunables(statfile.DefaultConfig()), " "))
}

// kebab turns MaxPathBlocks into max-path-blocks and ShortGapNS into short-gap-ns.
func kebab(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 && unicode.IsLower(r[i-1]) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}
