"""Promises that are kept over several servers: a test file of each server runs them."""
