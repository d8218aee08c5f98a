"""How much of the reference the service answers, and how much of that the tests have seen.

Three things are laid beside each other: the reference as data (``reference/*.toml``, one file for each
namespace), the method table, and what the tests recorded (``recorded.json``). The result is the page
``docs/coverage.md``; nothing of it is typed by hand but the reasons in ``reasons.toml``.
"""
