use strict;
use warnings;
use Shapes::Square;

print Shapes::Square::area(7), "\n";
