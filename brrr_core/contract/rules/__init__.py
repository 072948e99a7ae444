"""The rules of the contract, a family or two a module."""
