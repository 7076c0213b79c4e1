// Package deploy gives Complement's tests local chancery processes instead of containers.
package deploy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/complement"
	"github.com/matrix-org/complement/client"
	"github.com/matrix-org/complement/config"
	"github.com/matrix-org/complement/ct"

	"chancery/complement/homeserver"
)

// The environment of a test package, as the runner sets it.
const (
	// The binary of chancery.
	binaryVariable = "CHANCERY_BIN"
	// What the servers log, as CHANCERY_LOG.
	logVariable = "CHANCERY_COMPLEMENT_LOG"
)

// Main is the TestMain of a package of Complement's tests.
func Main(m *testing.M, namespace string) {
	// Complement insists on the name of an image, and asks for containers to clean up. There are none: what
	// needs one fails at once, whether or not this machine has a daemon.
	os.Setenv("COMPLEMENT_BASE_IMAGE", "none")
	os.Setenv("DOCKER_HOST", "unix:///nonexistent")
	complement.TestMain(m, namespace, complement.WithDeployment(deploy), complement.WithCleanup(cleanUp))
}

// running are the deployments that no test has destroyed.
var running struct {
	sync.Mutex
	deployments map[*Deployment]struct{}
}

func deploy(t ct.TestLike, servers int, config *config.Complement) complement.Deployment {
	t.Helper()
	begin := time.Now()
	folder, err := os.MkdirTemp("", "chancery-")
	if err != nil {
		ct.Fatalf(t, "deploy: %s", err)
	}
	d := &Deployment{config: config, folder: folder, servers: make(map[string]*homeserver.Server)}
	running.Lock()
	if running.deployments == nil {
		running.deployments = make(map[*Deployment]struct{})
	}
	running.deployments[d] = struct{}{}
	running.Unlock()
	if err := d.start(servers); err != nil {
		d.end()
		ct.Fatalf(t, "deploy: %s", err)
	}
	t.Logf("deploy: %d servers in %s", servers, time.Since(begin))
	return d
}

func (d *Deployment) start(servers int) error {
	for i := range servers {
		name := fmt.Sprintf("hs%d", i+1)
		server, err := homeserver.New(homeserver.Options{
			Binary:       os.Getenv(binaryVariable),
			Name:         name,
			Folder:       filepath.Join(d.folder, name),
			SharedSecret: client.SharedSecret,
			Authority:    homeserver.Authority{Certificate: d.config.CACertificate, Key: d.config.CAPrivateKey},
			Log:          logFilter(d.config),
			Timeout:      d.config.SpawnHSTimeout,
		})
		if err != nil {
			return err
		}
		d.servers[name] = server
	}
	// They read it when they start.
	if err := d.introduce(); err != nil {
		return err
	}
	var starting sync.WaitGroup
	failed := make(chan error, servers)
	for _, server := range d.servers {
		starting.Go(func() {
			if err := server.Start(); err != nil {
				failed <- err
			}
		})
	}
	starting.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// introduce tells the servers of each other, and of the machine on which the tests are servers too.
func (d *Deployment) introduce() error {
	peers := map[string]netip.Addr{d.config.HostnameRunningComplement: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	for name, server := range d.servers {
		peers[name] = server.Address()
	}
	for _, server := range d.servers {
		if err := server.SetPeers(peers); err != nil {
			return err
		}
	}
	return nil
}

func logFilter(config *config.Complement) string {
	if filter := os.Getenv(logVariable); filter != "" {
		return filter
	}
	if config.DebugLoggingEnabled {
		return "debug"
	}
	return "warn"
}

// end kills the servers and removes their data.
func (d *Deployment) end() {
	running.Lock()
	delete(running.deployments, d)
	running.Unlock()
	for _, server := range d.servers {
		server.Kill()
	}
	_ = os.RemoveAll(d.folder)
}

func cleanUp(*config.Complement) {
	running.Lock()
	var left []*Deployment
	for d := range running.deployments {
		left = append(left, d)
	}
	running.Unlock()
	for _, d := range left {
		d.end()
	}
}

// hostPort joins a host and the port of a URL, if it has one.
func hostPort(host, port string) string {
	if port == "" {
		return host
	}
	return net.JoinHostPort(host, port)
}
