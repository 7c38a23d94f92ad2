require_relative "shapes/square"

puts area(7)
