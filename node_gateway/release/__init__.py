"""What may leave the node: declared, checked by the gateway's own code against the node's floor and its ledger, signed,
published.
"""
