# Reads a NoCloud document written as JSON and prints, as quoted shell calls, what this guest can do with it.
# Commands go to the file that the variable `commands` names, everything else to standard output.
# Strings hold no raw line feed in JSON, so lines may be joined with blanks.

/^#/ { next }
{ text = text $0 " " }

function fail() { failed = 1; exit 1 }
function skip() { sub(/^[ \t\r]+/, "", text) }
function utf8(code) {
	if (code < 128) return sprintf("%c", code)
	if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
	if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
	return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
function hex(digits,    n, i) {
	for (i = 1; i <= 4; i++) n = n * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
	return n
}
function string(    out, p, c, code, low) {
	text = substr(text, 2)
	while (1) {
		p = match(text, /["\\]/)
		if (!p) fail()
		out = out substr(text, 1, p - 1); c = substr(text, p, 1); text = substr(text, p + 1)
		if (c == "\"") return out
		c = substr(text, 1, 1); text = substr(text, 2)
		if (c == "u") {
			code = hex(text); text = substr(text, 5)
			if (code >= 55296 && code < 56320) {
				low = hex(substr(text, 3)); text = substr(text, 7)
				code = 65536 + (code - 55296) * 1024 + low - 56320
			}
			out = out utf8(code)
		}
		else if (c == "n") out = out "\n"
		else if (c == "t") out = out "\t"
		else if (c == "r") out = out "\r"
		else if (c == "b") out = out "\b"
		else if (c == "f") out = out "\f"
		else out = out c
	}
}
function value(path,    c, name, n) {
	skip(); c = substr(text, 1, 1)
	if (c == "\"") { V[path] = string(); return }
	if (c == "{" || c == "[") {
		text = substr(text, 2); skip(); n = 0
		while (substr(text, 1, 1) !~ /[]}]/) {
			if (text == "") fail()
			if (c == "{") { name = string(); skip(); text = substr(text, 2) } else name = n
			n++; value(path "." name); skip()
			if (substr(text, 1, 1) == ",") { text = substr(text, 2); skip() }
		}
		text = substr(text, 2); N[path] = n
		return
	}
	if (!match(text, /^[-+.0-9a-zA-Z]+/)) fail()
	V[path] = substr(text, 1, RLENGTH); text = substr(text, RLENGTH + 1)
}
function quoted(s) { gsub(/'/, "'\\''", s); return "'" s "'" }

END {
	if (failed) exit 1
	value("")
	if (".instance-id" in V) print "instance " quoted(V[".instance-id"])
	if (".local-hostname" in V) print "hostname_is " quoted(V[".local-hostname"])
	for (i = 0; i < N[".users"]; i++) {
		user = ".users." i; name = quoted(V[user ".name"])
		print "account " name
		if ((user ".hashed_passwd") in V) print "password " name " " quoted(V[user ".hashed_passwd"])
		for (j = 0; j < N[user ".ssh_authorized_keys"]; j++)
			print "key " name " " quoted(V[user ".ssh_authorized_keys." j])
	}
	for (j = 0; j < N[".ssh_authorized_keys"]; j++) print "key 'root' " quoted(V[".ssh_authorized_keys." j])
	for (i = 0; i < N[".write_files"]; i++) {
		f = ".write_files." i; mode = V[f ".permissions"]
		print "file " quoted(V[f ".path"]) " " quoted(mode == "" ? "0644" : mode) " " quoted(V[f ".encoding"]) " " quoted(V[f ".content"])
	}
	for (i = 0; i < N[".runcmd"]; i++) {
		c = ".runcmd." i
		if (c in V) { print "execute sh -c " quoted(V[c]) > commands; continue }
		line = "execute"
		for (j = 0; j < N[c]; j++) line = line " " quoted(V[c "." j])
		print line > commands
	}
}
