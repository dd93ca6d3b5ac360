"""An archive as SDA's download service (v1) shows it: real Crypt4GH files in a folder, opened by the visas of who asks.
A stand-in for tests and the demo.
"""
