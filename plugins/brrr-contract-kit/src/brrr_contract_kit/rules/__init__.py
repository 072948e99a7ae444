"""The rules of the contract, one or a few families in each module."""
