// go-git: ACTION URL FOLDER ... as tests/support/clients.rs calls it.
package main

import (
	"fmt"
	"net/url"
	"os"
	"strconv"

	"github.com/go-git/go-git"
	"github.com/go-git/go-git/config"
	"github.com/go-git/go-git/plumbing/transport"
	"github.com/go-git/go-git/plumbing/transport/http"
)

func main() {
	if err := act(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil && err != git.NoErrAlreadyUpToDate {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func act(action, address, folder string, rest []string) error {
	parsed, err := url.Parse(address)
	if err != nil {
		return err
	}
	var auth transport.AuthMethod
	if parsed.User != nil {
		password, _ := parsed.User.Password()
		auth = &http.BasicAuth{Username: parsed.User.Username(), Password: password}
	}
	parsed.User = nil
	if action == "clone" {
		depth, err := strconv.Atoi(rest[0])
		if err != nil {
			return err
		}
		_, err = git.PlainClone(folder, false, &git.CloneOptions{URL: parsed.String(), Auth: auth, Depth: depth})
		return err
	}
	repository, err := git.PlainOpen(folder)
	if err != nil {
		return err
	}
	if action == "fetch" {
		return repository.Fetch(&git.FetchOptions{Auth: auth})
	}
	specs := []config.RefSpec{}
	switch action {
	case "mirror":
		specs = append(specs, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	case "delete":
		specs = append(specs, config.RefSpec(":"+rest[0]))
	default:
		spec := rest[0] + ":" + rest[1]
		if rest[2] != "" {
			spec = "+" + spec
		}
		specs = append(specs, config.RefSpec(spec))
	}
	return repository.Push(&git.PushOptions{Auth: auth, Progress: os.Stderr, RefSpecs: specs})
}
