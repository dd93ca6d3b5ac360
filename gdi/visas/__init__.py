"""GA4GH passports and visas: what a person may use."""
