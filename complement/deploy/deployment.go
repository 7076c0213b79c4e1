package deploy

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/matrix-org/complement"
	"github.com/matrix-org/complement/client"
	"github.com/matrix-org/complement/config"
	"github.com/matrix-org/complement/ct"
	"github.com/matrix-org/complement/helpers"
	"github.com/matrix-org/gomatrixserverlib/spec"

	"chancery/complement/homeserver"
)

const (
	// The password of users for whom a test names none.
	password = "a password that is long enough"
	// How long a client waits for what a test expects to see in /sync.
	syncTimeout = 5 * time.Second
)

// Deployment is a set of homeservers, for one test.
type Deployment struct {
	config  *config.Complement
	folder  string
	servers map[string]*homeserver.Server
	// Users are numbered, so that a test can make as many as it likes.
	users atomic.Int64
}

var _ complement.Deployment = (*Deployment)(nil)

func (d *Deployment) server(t ct.TestLike, name string) *homeserver.Server {
	t.Helper()
	server := d.servers[name]
	if server == nil {
		ct.Fatalf(t, "there is no server %q in this deployment", name)
	}
	return server
}

// GetFullyQualifiedHomeserverName is the server name: the name itself, which all servers look up to the address.
func (d *Deployment) GetFullyQualifiedHomeserverName(t ct.TestLike, name string) spec.ServerName {
	t.Helper()
	d.server(t, name)
	return spec.ServerName(name)
}

// UnauthenticatedClient is a client without a session.
func (d *Deployment) UnauthenticatedClient(t ct.TestLike, name string) *client.CSAPI {
	t.Helper()
	return client.NewCSAPI(client.CSAPIOpts{
		BaseURL:          d.server(t, name).ClientURL(),
		Client:           client.NewLoggedClient(t, name, nil),
		SyncUntilTimeout: syncTimeout,
		Debug:            d.config.DebugLoggingEnabled,
	})
}

// Register makes a user, and is a client of theirs.
func (d *Deployment) Register(t ct.TestLike, name string, opts helpers.RegistrationOpts) *client.CSAPI {
	t.Helper()
	c := d.UnauthenticatedClient(t, name)
	c.Password = opts.Password
	if c.Password == "" {
		c.Password = password
	}
	localpart := fmt.Sprintf("user-%d", d.users.Add(1))
	if opts.LocalpartSuffix != "" {
		localpart += "-" + opts.LocalpartSuffix
	}
	if opts.IsAdmin {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterSharedSecret(t, localpart, c.Password, true)
	} else {
		c.UserID, c.AccessToken, c.DeviceID = c.RegisterUser(t, localpart, c.Password)
	}
	return c
}

// Login is another client of a user who is there.
func (d *Deployment) Login(t ct.TestLike, name string, existing *client.CSAPI, opts helpers.LoginOpts) *client.CSAPI {
	t.Helper()
	localpart, _, _ := strings.Cut(strings.TrimPrefix(existing.UserID, "@"), ":")
	c := d.UnauthenticatedClient(t, name)
	c.Password = existing.Password
	if opts.Password != "" {
		c.Password = opts.Password
	}
	var with []client.LoginOpt
	if opts.DeviceID != "" {
		with = append(with, client.WithDeviceID(opts.DeviceID))
	}
	c.UserID, c.AccessToken, c.DeviceID = c.LoginUser(t, localpart, c.Password, with...)
	return c
}

// AppServiceUser fails: only blueprints have application services, and those are built as images.
func (d *Deployment) AppServiceUser(t ct.TestLike, name, user string) *client.CSAPI {
	t.Helper()
	ct.Fatalf(t, "%s has no application service with the user %s", name, user)
	return nil
}

// Restart stops and starts all servers. Their addresses and their data stay.
func (d *Deployment) Restart(t ct.TestLike) error {
	t.Helper()
	for _, server := range d.servers {
		if err := server.Stop(); err != nil {
			return err
		}
		if err := server.Start(); err != nil {
			return err
		}
	}
	return nil
}

// StopServer ends a server in good order.
func (d *Deployment) StopServer(t ct.TestLike, name string) {
	t.Helper()
	check(t, d.server(t, name).Stop())
}

// StartServer starts a server that was stopped.
func (d *Deployment) StartServer(t ct.TestLike, name string) {
	t.Helper()
	check(t, d.server(t, name).Start())
}

// PauseServer stops a server from doing anything.
func (d *Deployment) PauseServer(t ct.TestLike, name string) {
	t.Helper()
	check(t, d.server(t, name).Pause())
}

// UnpauseServer lets a paused server go on.
func (d *Deployment) UnpauseServer(t ct.TestLike, name string) {
	t.Helper()
	check(t, d.server(t, name).Unpause())
}

func check(t ct.TestLike, err error) {
	t.Helper()
	if err != nil {
		ct.Fatalf(t, "%s", err)
	}
}

// ContainerID is the id of the process, as good a handle on a server as there is.
func (d *Deployment) ContainerID(t ct.TestLike, name string) string {
	t.Helper()
	return strconv.Itoa(d.server(t, name).Process())
}

// Destroy ends the servers, and shows what they logged if the test has failed.
func (d *Deployment) Destroy(t ct.TestLike) {
	t.Helper()
	if t.Failed() || d.config.AlwaysPrintServerLogs {
		for name, server := range d.servers {
			if log := server.LogTail(); log != "" {
				t.Logf("the log of %s:\n%s", name, log)
			}
		}
	}
	d.end()
}

// GetConfig is Complement's configuration.
func (d *Deployment) GetConfig() *config.Complement {
	return d.config
}

// Network is the name of a network for more containers: there is none.
func (d *Deployment) Network() string {
	return ""
}

// RoundTripper sends requests to a server name to where that server is.
func (d *Deployment) RoundTripper() http.RoundTripper {
	return roundTripper{d}
}

type roundTripper struct{ deployment *Deployment }

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) {
	name := request.URL.Hostname()
	there := request.Clone(request.Context())
	there.URL.Scheme = "https"
	if name == r.deployment.config.HostnameRunningComplement {
		there.URL.Host = hostPort("127.0.0.1", request.URL.Port())
	} else if server := r.deployment.servers[name]; server != nil {
		there.URL.Host = server.FederationHost()
	} else {
		return nil, fmt.Errorf("there is no server %q in this deployment", name)
	}
	transport := http.Transport{
		DisableKeepAlives: true,
		// Tests show certificates of all kinds; whom they talk to is not what is tested.
		TLSClientConfig: &tls.Config{ServerName: name, InsecureSkipVerify: true},
	}
	return transport.RoundTrip(there)
}
