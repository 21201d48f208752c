// Runs templates with Helm's own engine and writes down what comes out: tests/data/template/cases.json.
//
//	go run . < cases.json > recorded.json
package main

import (
	"encoding/json"
	"os"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

type oneCase struct {
	Template string  `json:"template"`
	Output   *string `json:"output,omitempty"`
	Error    string  `json:"error,omitempty"`
}

type corpus struct {
	Values map[string]interface{} `json:"values"`
	Cases  []oneCase              `json:"cases"`
}

func main() {
	var all corpus
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		panic(err)
	}
	for i := range all.Cases {
		one := &all.Cases[i]
		c := &chart.Chart{
			Metadata:  &chart.Metadata{APIVersion: "v2", Name: "c", Version: "1.2.3", AppVersion: "9"},
			Templates: []*chart.File{{Name: "templates/x.txt", Data: []byte(one.Template)}},
			Values:    all.Values,
		}
		kube, err := chartutil.ParseKubeVersion("1.34.0")
		if err != nil {
			panic(err)
		}
		caps := chartutil.DefaultCapabilities.Copy()
		caps.KubeVersion = *kube
		values, err := chartutil.ToRenderValues(c, nil, chartutil.ReleaseOptions{Name: "rel", Namespace: "ns", Revision: 1, IsInstall: true}, caps)
		if err != nil {
			panic(err)
		}
		one.Output, one.Error = nil, ""
		files, err := engine.Render(c, values)
		if err != nil {
			one.Error = err.Error()
			continue
		}
		text := files["c/templates/x.txt"]
		one.Output = &text
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(all); err != nil {
		panic(err)
	}
}
