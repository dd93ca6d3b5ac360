"""What the portal keeps: which run is whose, what was asked for, how it last stood. No token, no ticket, no result."""
