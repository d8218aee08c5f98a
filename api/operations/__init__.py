"""What really happens: jobs accepted by the methods, run as durable workflows on the hypervisor."""
