package report

import (
	"cmp"
	"fmt"
	"slices"

	"ub/hot"
	"ub/sentry/statfile"
)

// Gap is the gaps behind one syscall instruction, or those of one of its callers, with the controller's view of them.
type Gap struct {
	Site     string `json:"site"`             // program address, hexadecimal
	Caller   string `json:"caller,omitempty"` // the same; "other" for those not listed apart; empty for all
	Space    uint32 `json:"space"`
	State    string `json:"state"`
	Why      string `json:"why,omitempty"`
	Level    uint8  `json:"level"`
	Entered  uint64 `json:"entered"`
	Bypassed uint64 `json:"bypassed"`
	Misses   uint64 `json:"misses"`
	Stops    uint64 `json:"stops"`
	// PayoffNS is what a pass saves, the median of Pairs differences; BaseNS and ActiveNS what it takes without and
	// with bypass. Of a gap that is not bypassed they are those of its last trial.
	PayoffNS   int64  `json:"payoff_ns"`
	Pairs      uint16 `json:"pairs"`
	BaseNS     uint64 `json:"base_ns"`
	ActiveNS   uint64 `json:"active_ns"`
	Setbacks   uint16 `json:"setbacks"`
	Extensions uint32 `json:"extensions"`
}

// Gaps puts a gap table into words, most often entered first.
func Gaps(table []statfile.Gap) []Gap {
	slices.SortStableFunc(table, func(a, b statfile.Gap) int { return cmp.Compare(b.Entered, a.Entered) })
	out := make([]Gap, 0, len(table))
	for _, g := range table {
		out = append(out, Gap{
			Site: fmt.Sprintf("%#x", g.Site), Caller: caller(g.Caller), Space: g.Space,
			State: hot.State(g.State).String(), Why: hot.Why(g.Why).String(), Level: g.Level,
			Entered: g.Entered, Bypassed: g.Bypassed, Misses: g.Misses, Stops: g.Stops,
			PayoffNS: g.PayoffNS, Pairs: g.Pairs, BaseNS: g.BaseNS, ActiveNS: g.ActiveNS, Setbacks: g.Setbacks, Extensions: g.Extensions,
		})
	}
	return out
}

func caller(a uint64) string {
	switch a {
	case 0:
		return ""
	case ^uint64(0):
		return "other"
	}
	return fmt.Sprintf("%#x", a)
}
