//go:build assets

// With the tag assets the program holds no Kubernetes: `up` starts etcd and kube-apiserver of KUBEBUILDER_ASSETS.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != "up" {
		fmt.Fprintln(os.Stderr, "usage: control-plane up ...")
		os.Exit(2)
	}
	if err := up(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "control-plane:", err)
		os.Exit(1)
	}
}
