ARGV.each { |argument| puts "[#{argument}]" }
