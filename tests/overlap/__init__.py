"""What one version per buffer costs in idle time, and what `surplus` and `max_lead` buy back."""
