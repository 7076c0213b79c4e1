// Package homeserver runs chancery processes, each on a loopback address of its own.
//
// A process keeps its address and its data for as long as its Server is used: it can be stopped, started again,
// paused, and killed. The package knows nothing of Complement.
package homeserver

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// The ports of every server, on its own address: that of the specification for federation, so that a name is
	// enough to find it.
	clientPort     = 8008
	federationPort = 8448

	// How often an address is tried that somebody else may have, and how often a new process is asked.
	addressTriesMax = 100
	readyEvery      = 5 * time.Millisecond
	// What is read of a log to show it.
	logTailBytes = 16 << 10
)

// Authority is the certificate authority of a run, which all servers trust.
type Authority struct {
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey
}

// Options say what a server is.
type Options struct {
	// The binary of chancery.
	Binary string
	// The server name, as others look it up: hs1.
	Name string
	// The folder of configuration, data and log; it is made.
	Folder string
	// With what /_synapse/admin/v1/register is asked.
	SharedSecret string
	// Who signs the certificate of the server.
	Authority Authority
	// What is logged, as CHANCERY_LOG.
	Log string
	// How long a start, and an orderly end, may take.
	Timeout time.Duration
}

// Server is a homeserver.
type Server struct {
	options Options
	address netip.Addr
	process *exec.Cmd
	// Closed when the process has ended.
	ended chan struct{}
}

// New prepares a server. Start starts it, once SetPeers has said where the others are.
func New(options Options) (*Server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	server := &Server{options: options, address: address}
	if err := os.MkdirAll(options.Folder, 0o700); err != nil {
		return nil, err
	}
	if err := options.Authority.writeCertificate(options.Folder, options.Name, address); err != nil {
		return nil, fmt.Errorf("the certificate of %s: %w", options.Name, err)
	}
	if err := os.WriteFile(server.file("chancery.toml"), []byte(server.configuration()), 0o600); err != nil {
		return nil, err
	}
	return server, nil
}

// ClientURL is where clients connect.
func (s *Server) ClientURL() string {
	return fmt.Sprintf("http://%s:%d", s.address, clientPort)
}

// FederationHost is the address and port where other servers connect, with TLS.
func (s *Server) FederationHost() string {
	return fmt.Sprintf("%s:%d", s.address, federationPort)
}

// Address is the address of the server.
func (s *Server) Address() netip.Addr {
	return s.address
}

// Process is the id of the process, or 0.
func (s *Server) Process() int {
	if s.process == nil {
		return 0
	}
	return s.process.Process.Pid
}

// SetPeers says where the other servers of a deployment are. It writes them down as a hosts file beside the
// configuration: what looks up other servers reads it from there.
func (s *Server) SetPeers(peers map[string]netip.Addr) error {
	var hosts strings.Builder
	for name, address := range peers {
		fmt.Fprintf(&hosts, "%s %s\n", address, name)
	}
	return os.WriteFile(s.file("hosts"), []byte(hosts.String()), 0o600)
}

// Start starts the process and returns when it answers.
func (s *Server) Start() error {
	if s.process != nil {
		return fmt.Errorf("%s runs already", s.options.Name)
	}
	log, err := os.OpenFile(s.file("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(s.options.Binary, "serve", "--config", s.file("chancery.toml"))
	process.Stdout, process.Stderr = log, log
	process.Env = append(os.Environ(), "CHANCERY_LOG="+s.options.Log)
	if err := process.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	s.process, s.ended = process, ended
	if err := s.awaitReady(); err != nil {
		s.Kill()
		return fmt.Errorf("%s does not answer: %w\n%s", s.options.Name, err, s.LogTail())
	}
	return nil
}

func (s *Server) awaitReady() error {
	// No connection is kept: the server that is started again has others.
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	late := time.After(s.options.Timeout)
	for {
		response, err := client.Get(s.ClientURL() + "/_matrix/client/versions")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		select {
		case <-s.ended:
			return errors.New("the process has ended")
		case <-late:
			return err
		case <-time.After(readyEvery):
		}
	}
}

// Stop ends the process as an operator does, and returns when it has ended. Its data stays.
func (s *Server) Stop() error {
	if err := s.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
		s.process = nil
		return nil
	case <-time.After(s.options.Timeout):
		s.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", s.options.Name, s.options.Timeout)
	}
}

// Kill ends the process at once, paused or not.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.ended
	s.process = nil
}

// Pause stops the process from doing anything, and returns when it has stopped; what it holds in memory and its
// connections stay.
func (s *Server) Pause() error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for late := time.Now().Add(s.options.Timeout); time.Now().Before(late); time.Sleep(readyEvery) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Process()))
		if err != nil {
			return err
		}
		// The state comes after the name, which is in parentheses and may have any letters.
		if _, state, found := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " "); found && state[0] == 'T' {
			return nil
		}
	}
	return fmt.Errorf("%s does not pause", s.options.Name)
}

// Unpause lets a paused process go on.
func (s *Server) Unpause() error {
	return s.signal(syscall.SIGCONT)
}

func (s *Server) signal(signal os.Signal) error {
	if s.process == nil {
		return fmt.Errorf("%s does not run", s.options.Name)
	}
	return s.process.Process.Signal(signal)
}

// LogTail is the end of the log.
func (s *Server) LogTail() string {
	log, err := os.Open(s.file("log"))
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	if length, err := log.Seek(0, io.SeekEnd); err == nil && length > logTailBytes {
		_, _ = log.Seek(length-logTailBytes, io.SeekStart)
	} else {
		_, _ = log.Seek(0, io.SeekStart)
	}
	tail, _ := io.ReadAll(log)
	return string(tail)
}

func (s *Server) file(name string) string {
	return filepath.Join(s.options.Folder, name)
}

// configuration is that of a server on which tests may do anything: everybody registers, nothing is limited,
// passwords cost as little as they may. Rooms are of version 11 where a test doesn't choose: Complement counts on
// creators who have a power level.
func (s *Server) configuration() string {
	return fmt.Sprintf(`
[[listen]]
address = "%[1]s:%[2]d"

[[listen]]
address = "%[1]s:%[3]d"
[listen.tls]
certificate = "certificate.pem"
key = "key.pem"

[[agency]]
server_name = "%[4]s"
data_dir = "data"
public_base_url = "http://%[1]s:%[2]d"

[agency.accounts.registration]
mode = "open"
shared_secret = "%[5]s"

[agency.accounts.password]
argon2_memory = "8 MiB"
argon2_passes = 1
# As short as the suite's own.
length_min = 5

[agency.rooms]
default_version = "11"

# The suite knows who sends notices by this name.
[agency.server_notices]
enabled = true
localpart = "_server"

# The suite's thread notifications mention users by their ids in the text, as it was before Matrix 1.17.
[agency.sync]
text_mentions = true

[agency.clients.limits]
enabled = false

# The suite asks for files at the old endpoints too, and for previews of pages that it serves itself.
[agency.media]
legacy = "open"

[agency.media.previews]
enabled = true

[agency.outgoing]
allowed_ranges = ["127.0.0.0/8"]
extra_roots = ["%[6]s"]

[memory]
budget = "64 MiB"

[shutdown]
drain = "1s"
`, s.address, clientPort, federationPort, s.options.Name, s.options.SharedSecret, s.file("authority.pem"))
}

// freeAddress finds a loopback address on which nobody listens. Linux answers on all of 127.0.0.0/8.
func freeAddress() (netip.Addr, error) {
	var last error
	for range addressTriesMax {
		random := rand.Uint32()
		address := netip.AddrFrom4([4]byte{127, 64 | byte(random>>24)&63, byte(random >> 16), 1 + byte(random>>8)%254})
		if last = isFree(address); last == nil {
			return address, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no loopback address is free: %w", last)
}

func isFree(address netip.Addr) error {
	for _, port := range []uint16{clientPort, federationPort} {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(address, port).String())
		if err != nil {
			return err
		}
		listener.Close()
	}
	return nil
}
