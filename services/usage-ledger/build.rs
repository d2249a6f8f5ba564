//! Embeds the migrations anew when one changes.

fn main() {
    #[allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]
    {
        println!("cargo:rerun-if-changed=migrations");
    }
}
