package profile

import (
	"fmt"
	"testing"
)

func TestLoad(t *testing.T) {
	tr, err := load(false, 0)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	tr.Close()
	tr, err = load(true, 0)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	fmt.Println(tr.open())
	tr.shut()
	k, v, err := tr.sites()
	for i := range k {
		fmt.Printf("%x %+v %s\n", k[i], v[i].Gaps, v[i].Comm)
	}
	tr.Close()
}
