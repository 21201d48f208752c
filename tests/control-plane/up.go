package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Ready line is what `up` prints when the API server answers.
type Ready struct {
	Kubeconfig string         `json:"kubeconfig"`
	Server     string         `json:"server"`
	Token      string         `json:"token"`
	Processes  map[string]int `json:"processes"`
}

func up(arguments []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder for data, keys, logs and the kubeconfig; made if missing")
	with := flags.String("with", "controller-manager", "further parts: controller-manager,scheduler,kwok")
	kwok := flags.String("kwok", "", "path of the kwok program, for the part kwok")
	stages := flags.String("kwok-stages", "", "folder of KWOK stage files, for the part kwok")
	port := flags.Int("port", 0, "port of the API server; 0 takes a free one")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("--dir is missing")
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ports, err := freePorts(5)
	if err != nil {
		return err
	}
	if *port != 0 {
		ports[2] = *port
	}
	token, err := secret()
	if err != nil {
		return err
	}
	at := func(name string) string { return filepath.Join(*dir, name) }
	server := fmt.Sprintf("https://127.0.0.1:%d", ports[2])
	if err := writeKey(at("service-account.key")); err != nil {
		return err
	}
	files := map[string]string{
		"tokens.csv": token + ",admin,admin,system:masters\n",
		"kubeconfig": kubeconfig(server, token),
	}
	for name, text := range files {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			return err
		}
	}

	group := &family{dir: *dir, self: self, ended: make(chan string, 8), processes: map[string]int{}}
	defer group.end()
	client := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	if err := group.start("etcd", "",
		"--data-dir="+at("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", ports[1])); err != nil {
		return err
	}
	if err := group.start("kube-apiserver", "",
		"--etcd-servers="+client, "--cert-dir="+at("certificates"),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[2]),
		"--service-cluster-ip-range=10.0.0.0/16",
		"--token-auth-file="+at("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+at("service-account.key"),
		"--service-account-signing-key-file="+at("service-account.key"),
		// Without a kubelet there is nobody to mount a token, and pods would wait for their account.
		"--disable-admission-plugins=ServiceAccount",
		"--profiling=false", "--enable-priority-and-fairness=true"); err != nil {
		return err
	}
	if err := group.await(server, token); err != nil {
		return err
	}
	for _, part := range strings.Split(*with, ",") {
		switch part {
		case "":
		case "controller-manager":
			// The default of 20 requests a second would be the floor of every fleet measurement.
			err = group.start("kube-controller-manager", "",
				"--kubeconfig="+at("kubeconfig"), "--leader-elect=false",
				fmt.Sprintf("--secure-port=%d", ports[3]), "--bind-address=127.0.0.1", "--cert-dir="+at("certificates-cm"),
				"--kube-api-qps=2000", "--kube-api-burst=4000",
				"--service-account-private-key-file="+at("service-account.key"))
		case "scheduler":
			err = group.start("kube-scheduler", "",
				"--kubeconfig="+at("kubeconfig"), "--leader-elect=false",
				fmt.Sprintf("--secure-port=%d", ports[4]), "--bind-address=127.0.0.1", "--cert-dir="+at("certificates-s"))
		case "kwok":
			if *kwok == "" {
				return errors.New("the part kwok needs --kwok")
			}
			list, globErr := filepath.Glob(filepath.Join(*stages, "*.yaml"))
			if globErr != nil || len(list) == 0 {
				return fmt.Errorf("no stage files in %q", *stages)
			}
			options := []string{"--kubeconfig=" + at("kubeconfig"), "--manage-all-nodes=true"}
			for _, file := range list {
				options = append(options, "--config="+file)
			}
			err = group.start("kwok", *kwok, options...)
		default:
			return fmt.Errorf("no part named %q", part)
		}
		if err != nil {
			return err
		}
	}
	line, err := json.Marshal(Ready{at("kubeconfig"), server, token, group.processes})
	if err != nil {
		return err
	}
	fmt.Println(string(line))

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-signals:
		return nil
	case name := <-group.ended:
		return fmt.Errorf("%s ended by itself; its log is %s", name, at(name+".log"))
	}
}

type family struct {
	dir, self string
	commands  []*exec.Cmd
	ended     chan string
	processes map[string]int
}

func (f *family) start(name, program string, flags ...string) error {
	log, err := os.Create(filepath.Join(f.dir, name+".log"))
	if err != nil {
		return err
	}
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		// setup-envtest brings etcd and kube-apiserver only; the other parts are left out.
		program = filepath.Join(assets, name)
		if _, err := os.Stat(program); err != nil && name != "etcd" && name != "kube-apiserver" {
			fmt.Fprintf(os.Stderr, "control-plane: %s has no %s; it is left out\n", assets, name)
			return nil
		}
	}
	if program == "" {
		program, flags = f.self, append([]string{name}, flags...)
	}
	command := exec.Command(program, flags...)
	command.Stdout, command.Stderr = log, log
	// The kernel ends the child even if this process is killed with SIGKILL.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return err
	}
	f.commands = append(f.commands, command)
	f.processes[name] = command.Process.Pid
	go func() {
		_ = command.Wait()
		log.Close()
		f.ended <- name
	}()
	return nil
}

func (f *family) end() {
	for index := len(f.commands) - 1; index >= 0; index-- {
		_ = f.commands[index].Process.Kill()
	}
}

func (f *family) await(server, token string) error {
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	limit, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(limit, http.MethodGet, server+"/readyz", nil)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		if answer, err := client.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case name := <-f.ended:
			return fmt.Errorf("%s ended before it was ready; its log is %s", name, filepath.Join(f.dir, name+".log"))
		case <-limit.Done():
			return fmt.Errorf("the API server was not ready in 60 s; its log is in %s", f.dir)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func freePorts(count int) ([]int, error) {
	ports := make([]int, 0, count)
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func secret() (string, error) {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		return "", err
	}
	return hex.EncodeToString(bytes), nil
}

func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

func kubeconfig(server, token string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: control-plane
contexts:
- name: control-plane
  context: {cluster: control-plane, user: admin, namespace: default}
clusters:
- name: control-plane
  cluster: {server: %q, insecure-skip-tls-verify: true}
users:
- name: admin
  user: {token: %q}
`, server, token)
}
