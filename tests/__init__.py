"""The tests: a package, so that what a folder shares ends with the folder."""
