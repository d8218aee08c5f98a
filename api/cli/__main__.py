"""``python -m api.cli`` is ``hypervisor``."""

from api.cli import main

main()
