"""The networks that tests explain and score: small, random or with known weights, most of them in both frameworks."""
