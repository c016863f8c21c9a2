// Command hello answers HTTP, or with -once says hello and ends.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
)

var version = "unknown"

func main() {
	once := flag.Bool("once", false, "say hello and end")
	flag.Parse()
	if *once {
		fmt.Println("hello, version", version)
		return
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "hello, version", version)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
