"""Small real data and trained weights, shipped with tinydiff; README.md has their sources and licences."""
