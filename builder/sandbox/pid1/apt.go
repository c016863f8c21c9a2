package pid1

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	aptVariable = "APT_CONFIG" // see apt.conf(5): the file that apt reads first
	aptName     = ".sinter-apt.conf"
)

// configureApt tells apt to stay the one user that there is: it would change to
// another one and refuse to work when that has no effect. The file is in /dev,
// which goes with the command: in /etc/apt, commands would copy it into the image,
// or could not remove it.
func (in *sandboxInit) configureApt() error {
	if !in.plan.Single || !in.hasApt() {
		return nil
	}
	text := "APT::Sandbox::User \"root\";\n"
	if own, ok := lookupEnv(in.plan.Env, aptVariable); ok && own != "" {
		include, ok := in.includeApt(own)
		if !ok {
			return nil
		}
		text = include + text
	}
	dev, err := openBelow(in.root, "/dev", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("telling apt that there is one user: opening /dev: %w", err)
	}
	defer unix.Close(dev)
	fd, err := unix.Openat(dev, aptName, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("telling apt that there is one user: making /dev/%s: %w", aptName, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return fmt.Errorf("telling apt that there is one user: writing /dev/%s: %w", aptName, err)
	}
	in.plan.Env = append(in.plan.Env, aptVariable+"=/dev/"+aptName)
	return nil
}

// hasApt reports whether the root has apt.
func (in *sandboxInit) hasApt() bool {
	for _, name := range []string{"/etc/apt", "/usr/bin/apt-get"} {
		if _, err := statBelow(in.root, name); err == nil {
			return true
		}
	}
	return false
}

// includeApt is the line that reads the file that the image names itself; empty when
// that does not exist. ok is false for a name that apt's format cannot express.
func (in *sandboxInit) includeApt(own string) (line string, ok bool) {
	if strings.ContainsAny(own, "\"\n") {
		return "", false
	}
	at := own
	if !strings.HasPrefix(at, "/") {
		at = in.cwd() + "/" + at
	}
	if _, err := statBelow(in.root, at); err != nil {
		return "", true
	}
	return "#include \"" + at + "\";\n", true
}
