source shapes/square.sh

area 7
