//! Compilers under attack, by their sources and by `compile_args`: what they start runs in the jail
//! of the compile step, which is as hard as a run's, and what they leave is taken with the same care.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use braindrill::{
    language::Status,
    protocol::ExecutionRequest,
    submission::{Blob, Encoding, SourceFile, Verdict},
};

use crate::{
    local::{Executed, Local},
    support::skip,
};

/// What of the host hostile code in a compiler might reach. It runs in bash as `spy.sh`, reports on
/// stderr, and leaves a process behind.
struct Spy {
    /// Where the host listens: who connects has left the jail.
    listener: TcpListener,
    /// Names the process that is left.
    marker: String,
}

impl Spy {
    fn new() -> Spy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("address").port();
        Spy { listener, marker: format!("7{port}{}", std::process::id()) }
    }

    fn script(&self) -> String {
        let port = self.listener.local_addr().expect("address").port();
        format!(
            r#"{{
for secret in /etc/shadow /proc/1/environ /root/.bashrc /root/.profile /etc/hostname /sys/kernel; do
  [ -r $secret ] && echo "spy reached $secret"
done
for place in /usr/spy /etc/spy /lib/spy /program/spy /spy /proc/sys/kernel/core_pattern; do
  : >$place && echo "spy wrote $place"
done
: </dev/tcp/127.0.0.1/{port} && echo "spy connected"
env | grep -e CARGO_ -e /root && echo "spy saw variables"
[ "$(cat /proc/self/oom_score_adj)" = 1000 ] || echo "spy escaped the limits"
set -- /proc/[0-9]*; [ $# -lt 20 ] || echo "spy saw $# processes"
setsid sleep {} >/dev/null 2>&1 </dev/null 3>&- &
echo "spy was here"
}} 3>&2 2>/dev/null >&3
exit 1 # a tool that ends well is not quoted by every compiler
"#,
            self.marker
        )
    }

    /// Panics where it got at something. `ran`: whether it must have run at all.
    fn check(&self, name: &str, executed: &Executed, ran: bool) {
        let report = executed.report();
        let compile = report.compile.as_ref().expect("compiled");
        let text = String::from_utf8_lossy(&compile.stderr.data.0).into_owned()
            + &String::from_utf8_lossy(&compile.stdout.data.0);
        assert_eq!(text.contains("spy was here"), ran, "{name}: {text}");
        for bad in ["spy reached", "spy wrote", "spy connected", "spy saw", "spy escaped", "root:"]
        {
            assert!(!text.contains(bad), "{name}: {text}");
        }
        assert!(!crate::sandbox::anybody_runs(&self.marker), "{name} left a process");
    }
}

fn file(path: &str, content: impl Into<Blob>) -> SourceFile {
    SourceFile { path: path.to_owned(), content: content.into(), encoding: Encoding::default() }
}

/// A request to compile `source` with these arguments, beside these files.
fn request(
    local: &Local,
    language: &str,
    source: &str,
    args: &[&str],
    files: Vec<SourceFile>,
) -> ExecutionRequest {
    let mut request = local.request(language, source);
    request.request.source = None;
    request.request.files = files;
    request.request.files.push(file(&request.request.entrypoint, source));
    request.request.compile_args = args.iter().map(ToString::to_string).collect();
    request
}

/// What a program prints that builds something: the tools of an attacker are those of the jail.
async fn built(local: &Local, language: &str, source: &str, files: Vec<SourceFile>) -> Vec<u8> {
    let mut request = request(local, language, source, &[], files);
    request.request.limits.memory_bytes = 1 << 30;
    request.request.limits.output_bytes = 8 << 20;
    request.request.limits.cpu_time_ms = 30_000;
    let executed = local.execute(request).await;
    let errors = String::from_utf8_lossy(&executed.stderr(0)).into_owned();
    assert_eq!(executed.report().verdict, Verdict::Accepted, "{:?} {errors}", executed.report());
    executed.stdout(0)
}

/// Whether a language is here; says so where it is not.
fn has(local: &Local, language: &str) -> bool {
    match local.catalog.get(language).expect("known").status {
        Status::Unavailable(reason) => {
            skip(&reason);
            false
        }
        _ => true,
    }
}

#[tokio::test]
async fn options_that_make_gcc_run_programs_run_them_in_the_jail() {
    let local = Local::start(1).await;
    let spy = Spy::new();
    let library = "gcc -shared -fPIC -o /tmp/spy.so spy.c && cat /tmp/spy.so";
    let constructor = "#include <stdlib.h>\n__attribute__((constructor)) static void spy(void) { \
                       system(\"/usr/bin/bash spy.sh\"); }";
    let library = built(&local, "bash", library, vec![file("spy.c", constructor)]).await;
    for (args, ran) in [
        (&["-wrapper", "/usr/bin/bash,spy.sh"][..], true),
        (&["-specs=evil.specs"], true),
        (&["--specs=evil.specs"], true),
        (&["@options"], true),
        (&["-fplugin=./spy.so"], true),
        (&["-B./"], true), // its liblto_plugin.so, for the linker
        (&["-B./", "-fno-lto", "-fno-use-linker-plugin"], false),
        (
            &["-D$(bash spy.sh)", "-DA=;bash spy.sh", "-DB=`bash spy.sh`", "-DC=\nbash spy.sh"],
            false,
        ),
    ] {
        let files = vec![
            file("spy.sh", spy.script()),
            file("evil.specs", "*link_command:\n/usr/bin/bash spy.sh\n\n"),
            file("options", "-wrapper /usr/bin/bash,spy.sh"),
            file("as", format!("#!/usr/bin/bash\n{}", spy.script())), // not executable
            file("spy.so", library.clone()),
            file("liblto_plugin.so", library.clone()),
        ];
        let executed = local.execute(request(&local, "c", "int main(void) {}", args, files)).await;
        spy.check(&format!("{args:?}"), &executed, ran);
        let verdict = executed.report().verdict;
        assert!(matches!(verdict, Verdict::CompileError | Verdict::Accepted), "{args:?}");
    }
}

#[tokio::test]
async fn options_cannot_read_or_write_outside_of_the_jail() {
    let local = Local::start(1).await;
    for (args, reason) in [
        (&["-o", "/usr/spy"][..], "exited with code 1"),
        (&["-o", "/etc/passwd"], "exited with code 1"),
        (&["-o", "/program/spy"], "exited with code 1"),
        (&["-o", "/proc/self/mem"], "exited with code 1"),
        (&["-o", "/box/program"], "exited with code 0, but left no program"),
        (&["-o", "/tmp/../box/program"], "exited with code 0, but left no program"),
        (&["@/etc/shadow"], "exited with code 1"),
        (&["@/proc/1/environ"], "exited with code 1"),
        (&["-I/", "-include", "etc/shadow"], "exited with code 1"),
        (&["-imacros", "/proc/1/environ"], "exited with code 1"),
        (&["-x", "c", "/root/.bashrc"], "exited with code 1"),
        (&["--version"], "exited with code 0, but left no program"),
        (&["-###"], "exited with code 0, but left no program"),
    ] {
        let executed =
            local.execute(request(&local, "c", "int main(void) {}", args, Vec::new())).await;
        let report = executed.report();
        assert_eq!(report.verdict, Verdict::CompileError, "{args:?}");
        assert_eq!(report.reason, format!("the compiler {reason}"), "{args:?}");
        let text = report.compile.as_ref().expect("compiled").stderr.data.0.clone();
        assert!(!String::from_utf8_lossy(&text).contains("root:"), "{args:?}");
        assert!(!std::path::Path::new("/usr/spy").exists());
    }
}

#[tokio::test]
async fn what_a_hijacked_compiler_leaves_is_taken_with_care() {
    let local = Local::start(1).await;
    for (leave, verdict, reason) in [
        ("truncate -s 60G /out/program", Verdict::CompileError, "larger than 67108864 bytes"),
        ("ln -sf /etc/shadow /out/program", Verdict::CompileError, "left no program"),
        ("mkfifo /out/program", Verdict::CompileError, "left no program"),
        ("for n in {1..2000}; do : >/out/$n; done", Verdict::CompileError, "more than 1000 files"),
        ("cd /out; for n in {1..40}; do mkdir d; cd d; done", Verdict::CompileError, "16 deep"),
        ("head -c 300M /dev/zero >/out/program", Verdict::CompileError, "left something in /out"),
        // Rights of its own are not kept, and nothing can be added later.
        (
            "printf '#!/usr/bin/bash\nstat -c %%a $0; : >/program/more' >/out/program; chmod 6777 /out/program",
            Verdict::RuntimeError,
            "exited with code 1",
        ),
    ] {
        // The first of gcc's programs leaves it, the others do nothing.
        let script = format!("[ -e /tmp/once ] && exit 0; : >/tmp/once\n{leave}\nexit 0");
        let args = ["-wrapper", "/usr/bin/bash,leave.sh"];
        let files = vec![file("leave.sh", script)];
        let executed = local.execute(request(&local, "c", "int main(void) {}", &args, files)).await;
        let report = executed.report();
        assert_eq!(report.verdict, verdict, "{leave}: {}", report.reason);
        assert!(report.reason.contains(reason), "{leave}: {}", report.reason);
        if verdict == Verdict::RuntimeError {
            assert_eq!(executed.stdout(0), b"555\n");
        }
        assert_eq!(local.left_over(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn annotation_processors_plugins_and_agents_of_javac_run_in_the_jail() {
    let local = Local::start(1).await;
    if !has(&local, "java") {
        return;
    }
    let spy = Spy::new();
    let agent = "import com.sun.source.util.*; import javax.annotation.processing.*;
        @SupportedAnnotationTypes(\"*\")
        public class Spy extends AbstractProcessor implements Plugin {
            static void act() { try {
                new ProcessBuilder(\"/usr/bin/bash\", \"spy.sh\").inheritIO().start().waitFor();
            } catch (Exception e) { throw new RuntimeException(e); } }
            public static void premain(String args) { act(); }
            public String getName() { return \"Spy\"; }
            public void init(JavacTask task, String... args) { act(); }
            public boolean process(java.util.Set<? extends javax.lang.model.element.TypeElement> set,
                RoundEnvironment round) { if (round.processingOver()) act(); return false; }
        }";
    let packer = "import java.util.jar.*; import java.nio.file.*;
        public class Main { public static void main(String[] args) throws Exception {
            Manifest manifest = new Manifest();
            manifest.getMainAttributes().putValue(\"Manifest-Version\", \"1.0\");
            manifest.getMainAttributes().putValue(\"Premain-Class\", \"Spy\");
            try (JarOutputStream jar = new JarOutputStream(System.out, manifest)) {
                jar.putNextEntry(new JarEntry(\"Spy.class\"));
                jar.write(Files.readAllBytes(Path.of(\"/program/Spy.class\")));
                for (String service : new String[] {
                    \"javax.annotation.processing.Processor\", \"com.sun.source.util.Plugin\" }) {
                    jar.putNextEntry(new JarEntry(\"META-INF/services/\" + service));
                    jar.write(\"Spy\".getBytes());
                }
            }
        } }";
    let jar = built(&local, "java", packer, vec![file("Spy.java", agent)]).await;
    for args in [
        &["-processorpath", "spy.jar"][..],
        &["-Xplugin:Spy", "-proc:none", "-processorpath", "spy.jar"],
        &["-J-javaagent:spy.jar"],
    ] {
        let files = vec![file("spy.sh", spy.script()), file("spy.jar", jar.clone())];
        let source = "class Main { public static void main(String[] a) {} }";
        let executed = local.execute(request(&local, "java", source, args, files)).await;
        spy.check(&format!("{args:?}"), &executed, true);
    }
}

#[tokio::test]
async fn code_at_build_time_of_rust_and_go_runs_in_the_jail() {
    let local = Local::start(1).await;
    let spy = Spy::new();
    let files = || vec![file("spy.sh", spy.script())];
    if has(&local, "rust") {
        let macros = "#[proc_macro] pub fn spy(_: proc_macro::TokenStream) -> proc_macro::TokenStream { \
                      std::process::Command::new(\"/usr/bin/bash\").arg(\"spy.sh\").status().unwrap(); \
                      Default::default() } extern crate proc_macro;";
        let build = "rustc --crate-type proc-macro --crate-name spy -C strip=symbols -C \
                     linker=/usr/bin/gcc -o /tmp/libspy.so spy.rs && cat /tmp/libspy.so";
        let library = built(&local, "bash", build, vec![file("spy.rs", macros)]).await;
        let mut with_library = files();
        with_library.push(file("libspy.so", library));
        let args = ["--extern", "spy=libspy.so"];
        let source = "spy::spy!(); fn main() {}";
        let executed = local.execute(request(&local, "rust", source, &args, with_library)).await;
        spy.check("proc-macro", &executed, true);
        assert_eq!(executed.report().verdict, Verdict::Accepted);

        let args = ["-C", "link-args=-wrapper /usr/bin/bash,spy.sh"];
        let executed = local.execute(request(&local, "rust", "fn main() {}", &args, files())).await;
        spy.check("linker", &executed, true);
        let source =
            "const A: &str = include_str!(\"/etc/shadow\"); fn main() { println!(\"{A}\") }";
        let executed = local.execute(request(&local, "rust", source, &[], files())).await;
        spy.check("include_str", &executed, false);
        assert_eq!(executed.report().verdict, Verdict::CompileError);
    }
    if has(&local, "go") {
        let source = "package main\nfunc main() {}\n";
        let args = ["-toolexec=/usr/bin/bash spy.sh"];
        let executed = local.execute(request(&local, "go", source, &args, files())).await;
        spy.check("toolexec", &executed, true);
        assert_eq!(executed.report().verdict, Verdict::CompileError);
    }
}

#[tokio::test]
async fn bombs_for_compilers_end_in_the_limits_of_compiling() {
    let local = Local::start(1).await;
    let tcp = Spy::new();
    let port = tcp.listener.local_addr().expect("address").port();
    let macros: String =
        (1..12).map(|n| format!("#define A{n} {}\n", format!("A{} ", n - 1).repeat(10))).collect();
    for (language, source, args) in [
        ("cpp", "template<int N> struct A { static const int v = A<N + 1>::v; }; int main() { return A<0>::v; }".to_owned(), &[][..]),
        ("cpp", "template<int N> struct A { static const int v = A<N + 1>::v; }; int main() { return A<0>::v; }".to_owned(), &["-ftemplate-depth=2000000000"]),
        ("cpp", "template<int N, long M> struct A { static const int v = A<N - 1, 2 * M>::v + A<N - 1, 2 * M + 1>::v; }; int main() { return A<60, 1>::v; }".to_owned(), &[]),
        ("cpp", "constexpr int f(int n) { for (;;) n++; } static_assert(f(0)); int main() {}".to_owned(), &["-fconstexpr-loop-limit=2147483647", "-fconstexpr-ops-limit=999999999999"]),
        ("c", format!("#define A0 1,\n{macros}int a[] = {{ A11 }};\nint main(void) {{}}"), &[]),
        ("c", "#include __FILE__\n#include __FILE__\n".to_owned(), &["-fmax-include-depth=2000000"]),
        ("c", "#warning x\n#include __FILE__\n#include __FILE__\n".to_owned(), &[]),
        ("c", "#include </dev/random>\nint main(void) {}".to_owned(), &[]),
        ("c", format!("#include </dev/tcp/127.0.0.1/{port}>\nint main(void) {{}}"), &[]),
        ("c", "#include \"/dev/stdin\"\nint main(void) { return undeclared; }".to_owned(), &[]),
        ("rust", "#![recursion_limit = \"4294967295\"]\nmacro_rules! m { ($($t:tt)*) => { m!($($t)* $($t)*) } } fn main() { m!(a) }".to_owned(), &[]),
    ] {
        if !has(&local, language) {
            continue;
        }
        let mut bomb = request(&local, language, &source, args, Vec::new());
        let compile = bomb.language.compile.as_mut().expect("compiled");
        compile.limits.cpu_time_ms = Some(700);
        compile.limits.memory_bytes = Some(128 << 20);
        let begin = Instant::now();
        let executed = local.execute(bomb).await;
        let report = executed.report();
        assert_eq!(report.verdict, Verdict::CompileError, "{source}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{source}");
        assert_eq!(local.left_over(), Vec::<String>::new());
    }
}
