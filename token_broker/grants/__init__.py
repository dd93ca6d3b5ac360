"""Consents of people, their tickets and their schedules."""
