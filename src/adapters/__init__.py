"""One module a technology that implements a port of the domain; the modules don't know each other."""
