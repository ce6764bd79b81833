"""Programs that attack the sandbox, one property each, and odd programs that are correct."""
