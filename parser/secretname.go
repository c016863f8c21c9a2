package parser

import "regexp"

// What the names of variables that hold secrets look like, and which of these do not: as
// in BuildKit's check SecretsUsedInArgOrEnv (dockerfile2llb, validateNoSecretKey).
var (
	secretName = regexp.MustCompile(`(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)`)
	publicName = regexp.MustCompile(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`)
)

// LooksSecret reports whether a variable of this name probably holds a secret.
func LooksSecret(name string) bool {
	return secretName.MatchString(name) && !publicName.MatchString(name)
}
