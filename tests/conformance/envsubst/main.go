// Says what fluxcd/pkg/envsubst makes of each case of a JSON file, strict as Flux can be: an array of
// {"vars": {...}, "text": "..."} becomes the same with "result" or "refused". To record anew:
//
//	go run . < ../../data/envsubst.json > new.json && mv new.json ../../data/envsubst.json
package main

import (
	"encoding/json"
	"os"

	"github.com/fluxcd/pkg/envsubst"
)

type Case struct {
	Vars    map[string]string `json:"vars"`
	Text    string            `json:"text"`
	Result  *string           `json:"result,omitempty"`
	Refused string            `json:"refused,omitempty"`
}

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	for i := range cases {
		one := &cases[i]
		result, err := envsubst.Eval(one.Text, func(name string) (string, bool) {
			value, found := one.Vars[name]
			return value, found
		})
		one.Result, one.Refused = nil, ""
		if err != nil {
			one.Refused = err.Error()
		} else {
			one.Result = &result
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(cases); err != nil {
		panic(err)
	}
}
