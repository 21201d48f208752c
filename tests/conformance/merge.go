// Prints what a strategic merge patch must know of the built-in kinds: src/render/kustomize/data/merge.txt.
//
//	go run . > ../../src/render/kustomize/data/merge.txt
package main

import (
	"fmt"
	"sort"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

func ref(s *spec.Schema) string {
	r := s.Ref.String()
	return strings.TrimPrefix(r, "#/definitions/")
}

// short leaves out what all names begin with.
func short(t string) string {
	return strings.NewReplacer("io.k8s.api.", "", "io.k8s.apimachinery.pkg.apis.meta.v1.", "meta.",
		"io.k8s.apiextensions-apiserver.pkg.apis.", "", "io.k8s.kube-aggregator.pkg.apis.", "").Replace(t)
}
func has(s *spec.Schema) bool { _, ok := s.Extensions["x-kubernetes-patch-strategy"]; return ok }

func main() {
	openapi.SchemaForResourceType(yaml.TypeMeta{APIVersion: "v1", Kind: "Pod"})
	defs := openapi.Schema().Definitions
	target := func(p *spec.Schema) (string, string) {
		if r := ref(p); r != "" {
			return "", r
		}
		if len(p.Type) == 1 && p.Type[0] == "array" && p.Items != nil && p.Items.Schema != nil {
			return "[]", ref(p.Items.Schema)
		}
		if p.AdditionalProperties != nil && p.AdditionalProperties.Schema != nil {
			return "{}", ref(p.AdditionalProperties.Schema)
		}
		return "", ""
	}
	useful := map[string]bool{}
	for changed := true; changed; {
		changed = false
		for n, d := range defs {
			if useful[n] {
				continue
			}
			for _, p := range d.Properties {
				_, t := target(&p)
				if has(&p) || useful[t] {
					useful[n] = true
					changed = true
					break
				}
			}
		}
	}
	var names []string
	for n := range useful {
		names = append(names, n)
	}
	sort.Strings(names)
	fmt.Println(`# What a strategic merge patch must know of the built-in kinds (OpenAPI of Kubernetes 1.21, as kustomize 5.7):
# a type with the kinds it stands for, and below it the fields whose lists are merged or that lead to such a
# list. A field: name, form ([] list, {} map) and type (- where nothing below matters), strategy, merge keys.
`)
	for _, n := range names {
		if strings.HasSuffix(n, "List") {
			continue
		}
		d := defs[n]
		var kinds []string
		if g, ok := d.Extensions["x-kubernetes-group-version-kind"]; ok {
			for _, e := range g.([]interface{}) {
				m := e.(map[string]interface{})
				k := m["version"].(string) + "/" + m["kind"].(string)
				if m["group"] != "" {
					k = m["group"].(string) + "/" + k
				}
				kinds = append(kinds, k)
			}
		}
		sort.Strings(kinds)
		// Types of metadata list every kind.
		if len(kinds) > 8 {
			kinds = nil
		}
		fmt.Println(strings.TrimSpace(short(n) + " " + strings.Join(kinds, " ")))
		var fs []string
		for f := range d.Properties {
			fs = append(fs, f)
		}
		sort.Strings(fs)
		for _, f := range fs {
			p := d.Properties[f]
			form, t := target(&p)
			if !has(&p) && !useful[t] {
				continue
			}
			line := "  " + f
			if t != "" && !useful[t] {
				t = "-"
			}
			if t == "" {
				t = "-"
			}
			line += " " + form + short(t)
			if has(&p) {
				line += " " + p.Extensions["x-kubernetes-patch-strategy"].(string)
				if k, ok := p.Extensions["x-kubernetes-patch-merge-key"]; ok {
					line += " key=" + k.(string)
				}
				if l, ok := p.Extensions["x-kubernetes-list-map-keys"]; ok {
					var ks []string
					for _, k := range l.([]interface{}) {
						ks = append(ks, k.(string))
					}
					line += " keys=" + strings.Join(ks, ",")
				}
			}
			fmt.Println(line)
		}
	}
}
