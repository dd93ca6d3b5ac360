"""The portal's pages for people: sign in, datasets, workflows, runs, consents; over the same calls as the API."""
