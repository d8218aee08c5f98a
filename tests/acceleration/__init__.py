"""How it is found out whether guests run on KVM."""
