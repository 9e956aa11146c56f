// An agent that reads its secrets from its environment. It says which it has, and never a value.
package main

import (
	"fmt"
	"os"
)

var needed = []string{"OPENAI_API_KEY", "DATABASE_URL"}

func main() {
	code := 0
	for _, name := range needed {
		state := "set"
		if os.Getenv(name) == "" {
			state, code = "missing", 1
		}
		fmt.Printf("%s: %s\n", name, state)
	}
	os.Exit(code)
}
