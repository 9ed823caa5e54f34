"""Simulations of what is reported as evidence: how often intervals cover, and how often alarms are false or missed."""
