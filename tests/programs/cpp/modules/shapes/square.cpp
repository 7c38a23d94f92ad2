#include "square.hpp"

int area(int side) {
    return side * side;
}
