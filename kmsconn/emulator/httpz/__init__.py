"""The dependencies of the first generation (httpz-rc7): three contracts on one gateway, a Core of that era, its users."""
