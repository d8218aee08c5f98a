"""The lab that the other tests run in."""
