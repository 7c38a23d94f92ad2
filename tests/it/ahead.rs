//! A program cannot tell whether its interpreter was started before it came.

use std::collections::BTreeMap;

use braindrill::{
    protocol::ExecutionRequest,
    submission::{Blob, SourceFile, Verdict},
};

use crate::local::Local;

/// Programs by language, each of which looks at its surroundings in some way or ends in some way.
const PROGRAMS: &[(&str, &[&str])] = &[
    (
        "python",
        &[
            r#"
import sys, os, signal, threading, resource, stat
print(sys.argv, sys.orig_argv, __name__, __file__, __spec__, sys.path, sys.flags)
print(sorted(globals()), sorted(sys.modules), sorted(os.environ.items()))
print(os.getcwd(), os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), os.getuid(), os.umask(0))
print([(f, oct(os.lstat(f).st_mode), os.lstat(f).st_uid, os.lstat(f).st_nlink) for f in sorted(os.listdir('.'))])
print([(fd, stat.S_IFMT(os.fstat(int(fd)).st_mode)) for fd in sorted(os.listdir('/proc/self/fd')) if int(fd) < 3])
print(len(os.listdir('/proc/self/fd')), [t.name for t in threading.enumerate()], sys.stdin.encoding, sys.path_importer_cache.keys())
print([resource.getrlimit(n) for n in range(16)])
print([(s, signal.getsignal(s)) for s in range(1, 65) if s in signal.valid_signals()])
print([l for l in open('/proc/self/status') if l.split(':')[0] in
    ('Name', 'Umask', 'Tgid', 'PPid', 'TracerPid', 'Uid', 'Gid', 'Groups', 'FDSize', 'NSpid', 'Threads',
     'SigQ', 'SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp')])
print(open('/proc/self/cmdline').read(), open('/proc/self/comm').read(), open('/proc/self/cgroup').read())
print([l.split(' - ')[0].split()[3:] for l in open('/proc/self/mountinfo')])
print(sorted(p for p in os.listdir('/proc') if p.isdigit()), os.statvfs('/box').f_blocks, os.statvfs('/box').f_files)
print(open(__file__).read()[:9], os.path.getsize(__file__))
print(sys.stdin.read())
"#,
            "import inspect, traceback\ndef f():\n    traceback.print_stack()\n    print([(i.filename, i.lineno, i.code_context) for i in inspect.stack()])\nf()\n",
            "def f(n):\n    return f(n - 1) / n\ndef g():\n    # é\n    return f(0)\ntry:\n    1/0\nexcept ZeroDivisionError:\n    raise ValueError('both')\n",
            "import sys\nsys.setrecursionlimit(50)\ndef f(): f()\nf()\n",
            "print('before')\ndef broken(:\n",
            "x = 'unclosed\n",
            "  print('indented')\n",
            "# coding: utf-8\nprint('é', '\\N{SNOWMAN}')\n",
            "\u{feff}print('a byte order mark')\n",
            "print(1)\r\nprint(2)\r\n",
            "print('no newline at the end')",
            "",
            "import other, package.inner\nprint(other.WORD, package.inner.WORD, other.__file__)\nother.fail()\n",
            "import sys; sys.exit(7)",
            "import sys; sys.exit('words')",
            "import os; os._exit(9)",
            "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
            "import signal, os; os.kill(os.getpid(), signal.SIGSEGV)",
            "raise KeyboardInterrupt",
            "import sys\nfor line in sys.stdin: print(len(line), end=' ')\nprint(input())\n",
            "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'print(open(\"main.py\").read())'])\n",
            "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import main'])\nprint(__import__('main').__name__)\n",
            "import multiprocessing\ndef f(x): return x * x\nif __name__ == '__main__':\n    with multiprocessing.get_context('spawn').Pool(2) as pool: print(pool.map(f, range(4)))\n",
            "import atexit, threading\natexit.register(print, 'exit')\nthreading.Thread(target=print, args=('thread',)).start()\n",
            "import asyncio\nasync def f(): await asyncio.sleep(0); print('async')\nasyncio.run(f())\n",
            "print(hash('x') != hash('x') + 1, 'é'.encode())\nimport warnings; warnings.warn('look')\n",
        ],
    ),
    (
        "javascript",
        &[
            r#"
const fs = require('fs'), os = require('os');
console.log(process.argv, process.execArgv, __filename, __dirname, require.main === module, module.paths, module.id);
console.log(process.env, process.cwd(), process.pid, process.ppid, process.getuid(), process.umask());
console.log(Object.keys(require.cache), Object.keys(globalThis), process.title, process.stdin.isTTY);
console.log(fs.readdirSync('.').map(f => [f, fs.lstatSync(f).mode, fs.lstatSync(f).uid, fs.lstatSync(f).nlink]));
console.log(fs.readdirSync('/proc/self/fd').length, fs.readFileSync('/proc/self/cmdline', 'utf8'));
console.log(fs.readFileSync('/proc/self/status', 'utf8').split('\n').filter(l => /^(Name|Umask|PPid|Uid|Threads|Sig|Cap|NoNew|Seccomp)/.test(l)));
console.log(fs.readFileSync('/proc/self/limits', 'utf8'), os.userInfo(), os.hostname());
console.log(fs.readFileSync(__filename, 'utf8').length, require('v8').getHeapStatistics().heap_size_limit);
console.log(process.report.getReport().header.commandLine, process.memoryUsage().rss > 1e6);
process.stdin.on('data', d => console.log('' + d)).on('end', () => console.log('end'));
"#,
            "function f() { throw new Error('x') }\nfunction g() { f() }\ng()\n",
            "console.log(new Error('here').stack)",
            "console.log('before'\n",
            "console.log('before'); null.x",
            "Promise.reject(new Error('unhandled'))",
            "setTimeout(() => { console.log('later'); process.exit(7) }, 5)",
            "process.kill(process.pid, 'SIGKILL')",
            "process.abort()",
            "process.exitCode = 3; console.error('é \u{2603}')",
            "console.log(require('./other').word, require('./other/x.json'))",
            "import('./other.mjs').then(m => console.log(m.default))",
            "require('./missing')",
            "#!/usr/bin/env node\nconsole.log('shebang', require('fs').readFileSync(0, 'utf8'))",
            "\u{feff}console.log('a byte order mark')",
            "",
            "const { Worker, isMainThread } = require('worker_threads'); if (isMainThread) new Worker(__filename).on('exit', c => console.log(c)); else console.log('worker')",
            "console.log(require('child_process').execFileSync(process.execPath, [__filename.replace('main', 'other')]).toString())",
            "const f = () => f(); f()",
            "export const x = 1; console.log(import.meta.url)",
            "await 1",
        ],
    ),
    (
        "ruby",
        &[
            "p ARGV, $0, __FILE__, __dir__, $LOAD_PATH.size, $LOADED_FEATURES.size, ENV.to_h, Dir.pwd, Process.pid, File.umask\np Dir.children('/proc/self/fd').size, Dir.children('.').map { |f| [f, File.lstat(f).mode] }\np STDIN.read, self, binding.local_variables, Encoding.default_external, Signal.trap('INT', 'DEFAULT')\np (0..15).map { |n| Process.getrlimit(n) rescue nil }\nputs File.read('/proc/self/cmdline')\n",
            "def f = raise('x')\ndef g = f\ng\n",
            "puts caller.inspect, caller_locations(0).inspect\n1/0\n",
            "puts 'before'\ndef broken(\n",
            "require_relative 'other'\nputs WORD\nload 'other.rb'\n",
            "exit 7",
            "abort 'words'",
            "Process.kill(:KILL, Process.pid)",
            "raise Interrupt",
            "# encoding: iso-8859-1\nputs __ENCODING__, 'x'\n",
            "#!/usr/bin/ruby -w\nx = 1\nputs \"é\"\n",
            "at_exit { puts 'exit' }\nThread.new { puts 'thread' }.join\ndef f = f()\nf\n",
            "puts DATA.read\n__END__\nthe rest\n",
            "",
        ],
    ),
    (
        "perl",
        &[
            "print join(',', @ARGV, $0, __FILE__, __LINE__, $$, getppid, umask), \"\\n\"; print map { \"$_=$ENV{$_}\\n\" } sort keys %ENV; print join(',', sort keys %INC), \"\\n\", join(',', @INC); opendir my $d, '/proc/self/fd'; print scalar(() = readdir $d), \"\\n\"; print <STDIN>; open my $f, '<', '/proc/self/cmdline'; print <$f>; print -s $0, sprintf('%o', (stat $0)[2]);",
            "sub f { die 'x' }\nsub g { f() }\ng();\n",
            "use Carp;\nsub f { Carp::confess('here') }\nf();\n",
            "print 'before';\nsub {\n",
            "use strict;\n$x = 1;\n",
            "require './other.pl';\nprint word();\n",
            "BEGIN { print \"begin\\n\" }\nEND { print \"end\\n\" }\nexit 7;\n",
            "kill 9, $$; sleep 1;",
            "print <DATA>;\n__DATA__\nthe rest\n",
            "print tell(main::DATA), \"x\";\n__END__\nthe rest\n",
            "#!/usr/bin/perl -w\nmy $x; print $x . 'é';\n",
            "use utf8; print \"\\x{2603}\\n\"; warn 'look';",
            "",
        ],
    ),
    (
        "php",
        &[
            "<?php print_r([$argv, $argc, __FILE__, __DIR__, __LINE__, getcwd(), getmypid(), umask(), get_included_files(), scandir('.'), php_sapi_name(), ini_get_all(null, false), PHP_BINARY]); print_r(getenv()); print_r(count(scandir('/proc/self/fd'))); echo stream_get_contents(STDIN), filesize(__FILE__), file_get_contents('/proc/self/cmdline');",
            "<?php function f() { throw new Exception('x'); }\nfunction g() { f(); }\ng();\n",
            "<?php debug_print_backtrace(); echo $undefined; trigger_error('look');",
            "<?php echo 'before';\nfunction {\n",
            "<?php require 'other.php'; echo WORD; require 'missing.php';",
            "<?php exit(7);",
            "<?php exit('words');",
            "<?php posix_kill(getmypid(), 9);",
            "<?php $f = fopen(__FILE__, 'r'); fseek($f, __COMPILER_HALT_OFFSET__); echo stream_get_contents($f); __halt_compiler(); the rest",
            "text before <?php echo 'é'; ?> and after\n",
            "#!/usr/bin/php\n<?php echo __LINE__;",
            "<?php function f() { return f(); } ini_set('memory_limit', '1M'); f();",
            "",
        ],
    ),
    (
        "lua",
        &[
            "for i = -3, 3 do print(i, arg[i]) end print(..., #arg, _VERSION, package.path, os.getenv('HOME'))\nlocal n = {} for k in pairs(_G) do n[#n + 1] = k end table.sort(n) print(table.concat(n, ' '))\nprint(io.read('a'), io.open('/proc/self/cmdline'):read('a'), debug.getinfo(1).source)\nfor l in io.popen('ls -l /proc/self/fd | wc -l'):lines() do print(l) end\n",
            "local function f() error('x') end\nlocal function g() f() end\ng()\n",
            "print(debug.traceback('here'))\nerror({code = 2})\n",
            "print('before'\n",
            "print(require('other').word)\nrequire('missing')\n",
            "os.exit(7)",
            "#!/usr/bin/lua\nprint(debug.getinfo(1).currentline)",
            "\u{feff}print('a byte order mark')",
            "local function f() return 1 + f() end f()",
            "io.stderr:write('é') print(2 // 0)",
            "",
        ],
    ),
];

/// Java's, which sees the folder of its compiled program as well.
const JAVA: &[&str] = &[
    r#"
import java.nio.file.*;
import java.util.*;
import java.util.stream.*;
import java.lang.management.ManagementFactory;
public class Main {
    static List<String> list(String folder) throws Exception {
        try (Stream<Path> all = Files.walk(Path.of(folder))) {
            return all.sorted().map(path -> {
                try {
                    return path + " " + Files.getPosixFilePermissions(path) + Files.getOwner(path)
                        + (Files.isRegularFile(path) ? Files.size(path) : "") + Files.isWritable(path);
                } catch (Exception e) { return path + " " + e; }
            }).collect(Collectors.toList());
        }
    }
    static List<String> lines(String file, String... beginnings) throws Exception {
        return Files.readAllLines(Path.of(file)).stream()
            .filter(line -> beginnings.length == 0 || Stream.of(beginnings).anyMatch(line::startsWith))
            .collect(Collectors.toList());
    }
    public static void main(String[] args) throws Exception {
        System.out.println(Arrays.toString(args) + System.getenv() + new TreeMap<>(System.getProperties()));
        System.out.println(list("/program") + "" + list("/box") + list("/tmp"));
        System.out.println(lines("/proc/self/status", "Name", "Umask", "PPid", "Uid", "Gid", "Sig", "Cap", "NoNew", "Seccomp"));
        System.out.println(lines("/proc/self/limits") + "" + lines("/proc/self/cmdline") + lines("/proc/self/cgroup"));
        for (String line : lines("/proc/self/mountinfo")) {
            String[] words = line.split(" ");
            // Where it comes from differs: a folder of the host, or of the jail alone.
            System.out.println(words[4] + " " + words[5]);
        }
        System.out.println(Thread.getAllStackTraces().keySet().stream().map(Thread::getName).sorted().collect(Collectors.toList()));
        System.out.println(Thread.currentThread() + " " + Main.class.getClassLoader().getClass() + Main.class.getProtectionDomain().getCodeSource());
        System.out.println(Main.class.getResource("Main.class") + " " + Main.class.getResourceAsStream("Main.class").readAllBytes().length);
        System.out.println(Runtime.getRuntime().maxMemory() + " " + Runtime.getRuntime().availableProcessors() + ManagementFactory.getGarbageCollectorMXBeans());
        try { Files.writeString(Path.of("/program/x"), "x"); } catch (Exception e) { System.out.println(e); }
        try { Files.delete(Path.of("/program/Main.class")); } catch (Exception e) { System.out.println(e); }
        System.out.println(new Scanner(System.in).nextLine() + new Inner().field + Other.word());
        throw new IllegalStateException("with a trace", new Exception("and a cause"));
    }
    static class Inner { int field = 7; }
}
class Other { static String word() { return "other"; } }
"#,
    r#"public class Main { public static void main(String[] a) { System.exit(7); } }"#,
    r#"public class Main { static int f(int n) { return f(n + 1) + 1; } public static void main(String[] a) { f(0); } }"#,
    r#"public class Main { static { System.out.println(1 / 0); } public static void main(String[] a) {} }"#,
    r#"public class Main { void main() {} }"#,
    r#"class Main { public static void main(String[] a) { byte[][] all = new byte[4000][]; for (int i = 0; i < 4000; i++) all[i] = new byte[1 << 20]; } }"#,
    r#"class Main { public static void main(String[] a) throws Exception { new Thread(() -> { throw new RuntimeException("thread"); }).start(); System.out.write(System.in.readAllBytes()); } }"#,
    r#"class Main { public static void main(String[] a) throws Exception { System.out.println(Class.forName("Main") == Main.class); Class.forName("Missing"); } }"#,
    r#"class Main { public static void main(String[] a) { Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook"))); Runtime.getRuntime().halt(3); } }"#,
    r#"class Other { public static void main(String[] a) { System.out.println("there is no Main"); } }"#,
    r#"interface Main { record P(int x) {} static void main(String[] a) { System.out.println(new P(1) + " " + java.util.List.of(1, 2)); } }"#,
];

/// Files beside each program.
const OTHERS: &[(&str, &str)] = &[
    ("other.py", "WORD = 'py'\ndef fail(): raise KeyError(WORD)\n"),
    ("package/inner.py", "from other import WORD\n"),
    ("other/index.js", "exports.word = 'js'\n"),
    ("other/x.json", "{\"x\": 1}"),
    ("other.js", "console.log('other', module === require.main)\n"),
    ("other.mjs", "export default import.meta.url\n"),
    ("other.rb", "WORD ||= 'rb'\n"),
    ("other.pl", "sub word { 'pl' }\n1;\n"),
    ("other.php", "<?php const WORD = 'php';\n"),
    ("other.lua", "return { word = 'lua' }\n"),
];

/// What came of a program, to be compared.
type Seen = (String, String, String, Option<i32>, Option<i32>);

async fn run(local: &Local, language: &str, source: &str) -> Seen {
    let mut request = local.request(language, source);
    request.request.stdin = "first line\nsecond line\n".to_owned();
    let main = request.language.source_file.clone();
    let file = |path: &str, content: &str| SourceFile {
        path: path.to_owned(),
        content: Blob::from(content),
        encoding: Default::default(),
    };
    request.request.files = OTHERS.iter().map(|(path, content)| file(path, content)).collect();
    request.request.files.push(file(&main, source));
    request.request.source = None;
    let executed = local.execute(request).await;
    let run = &executed.report().runs[0];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&executed.stdout(0)), text(&executed.stderr(0)));
    (stdout, stderr, run.verdict.to_string(), run.exit_code, run.signal)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sees_and_gives_the_same_when_its_interpreter_was_started_before() {
    // Room for one of each language: none is to give way to another.
    let (plain, ahead) = (Local::start(1).await, Local::start_ahead(3, 1 << 30).await);
    let mut differences = Vec::new();
    let mut waited: BTreeMap<&str, u64> = BTreeMap::new();
    let all = || PROGRAMS.iter().copied().chain([("java", JAVA)]);
    for (language, programs) in all() {
        // The first starts the interpreter for the next.
        run(&ahead, language, programs[0]).await;
        for source in programs {
            let before = ahead.runner.sandbox().handed_over();
            let (one, other) =
                (run(&plain, language, source).await, run(&ahead, language, source).await);
            *waited.entry(language).or_default() += ahead.runner.sandbox().handed_over() - before;
            if one != other {
                differences.push(format!("{language}: {source}\n{one:#?}\n{other:#?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    for (language, programs) in all() {
        // Those that would be read in another way are not handed over, and neither is the next.
        let least = programs.len() as u64 * 2 / 3;
        assert!(waited[language] >= least, "{language}: only {} were", waited[language]);
    }
    assert_eq!(plain.runner.sandbox().handed_over(), 0);
}

#[tokio::test]
async fn limits_are_watched_while_a_program_runs_that_is_not_read_to_its_end() {
    let local = Local::start_ahead(1, 1 << 30).await;
    let padding = format!("# {}\n", "x".repeat(98)).repeat(3_000);
    for (source, verdict) in [
        ("BEGIN { $| = 1; for (;;) { print 'y' x 1000 } }", Verdict::OutputLimitExceeded),
        ("BEGIN { if (!fork) { for (;;) {} } for (;;) {} }", Verdict::TimeLimitExceeded),
        ("BEGIN { sleep 100 }", Verdict::TimeLimitExceeded),
    ] {
        local.execute(limited(&local, "")).await;
        let before = local.runner.sandbox().handed_over();
        let executed = local.execute(limited(&local, &format!("{source}\n{padding}"))).await;
        let run = &executed.report().runs[0];
        assert_eq!(run.verdict, verdict, "{}", run.reason);
        assert!(run.stdout.bytes < 256 << 10, "{}", run.stdout.bytes);
        assert!(run.cpu_time_ms < 900, "{}", run.cpu_time_ms);
        assert_eq!(local.runner.sandbox().handed_over(), before + 1);
    }
}

/// A Perl program with small limits of one kind.
fn limited(local: &Local, source: &str) -> ExecutionRequest {
    let mut request = local.request("perl", source);
    let limits = &mut request.request.limits;
    (limits.cpu_time_ms, limits.wall_time_ms, limits.output_bytes) = (500, 2_000, 10_000);
    request
}

#[tokio::test]
async fn what_is_no_text_is_run_in_the_same_way_each_time() {
    let local = Local::start_ahead(1, 1 << 30).await;
    let compile = "import py_compile, sys\n\
                   open('x.py', 'w').write('print(\"compiled\")')\n\
                   sys.stdout.buffer.write(open(py_compile.compile('x.py', 'x.pyc'), 'rb').read())";
    let compiled = local.execute(local.request("python", compile)).await.stdout(0);
    for _ in 0..3 {
        let mut request = local.request("python", "");
        request.request.source = None;
        request.request.files = vec![SourceFile {
            path: "main.py".to_owned(),
            content: Blob(compiled.clone().into()),
            encoding: Default::default(),
        }];
        assert_eq!(local.execute(request).await.stdout(0), b"compiled\n");
    }
}
