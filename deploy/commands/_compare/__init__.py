"""What `oapl compare` alone needs: reading both sides, and telling the outcome."""
