"""The neighbours: three chains, Cores and buckets, over memory streams in virtual time and over sockets alike."""
