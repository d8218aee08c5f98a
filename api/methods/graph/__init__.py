"""Graphs of what a virtual machine uses: their URLs in ``hosting.vm.info``, and how they are drawn."""
