package launch

import (
	"context"
	"io"
	"log/slog"
	"strings"
)

// LogHandler returns a handler that writes each record as one line for people: "ub: message key=value".
func LogHandler(w io.Writer) slog.Handler { return &lineHandler{w: w} }

type lineHandler struct {
	w     io.Writer
	attrs []slog.Attr
}

func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("ub: ")
	b.WriteString(strings.ReplaceAll(strings.TrimSpace(r.Message), "\n", "; "))
	add := func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	b.WriteByte('\n')
	_, err := io.WriteString(h.w, b.String())
	return err
}

func (h *lineHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &lineHandler{w: h.w, attrs: append(append([]slog.Attr(nil), h.attrs...), a...)}
}

func (h *lineHandler) WithGroup(string) slog.Handler { return h }
