"""The Hosting API: requests in, operations recorded, virtual machines made by the `hypervisor` package."""
