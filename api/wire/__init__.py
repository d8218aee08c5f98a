"""The wire: HTTP, XML-RPC and the process that serves them."""
