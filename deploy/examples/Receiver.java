// Receives what `ordersync forward` sends, checks the signature, and has each effect once, whatever is sent twice. Needs a JDK
// (17 or newer) and no further library. Retries, order, and dead letters are the work of `ordersync forward`.
//
//   export ORDERSYNC_FORWARD__SECRET="whsec_$(openssl rand -base64 32)"
//   java Receiver.java 8088 effects.log &
//   ordersync forward --group shop --to http://127.0.0.1:8088/events orders
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.FileOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public class Receiver {
    private static final long TOLERANCE = 300; // seconds that a request may be old: it cannot be sent again by others later
    private static final int LARGEST = 64 << 20;

    private final List<byte[]> keys = new ArrayList<>();
    private final Set<String> done = new HashSet<>();
    private final FileOutputStream effects;

    Receiver(String secrets, Path file) throws IOException {
        for (String secret : secrets.trim().split("\\s+")) {
            keys.add(Base64.getDecoder().decode(secret.substring("whsec_".length())));
        }
        if (Files.exists(file)) {
            String text = Files.readString(file);
            String whole = text.substring(0, text.lastIndexOf('\n') + 1); // a line that was cut off had no answer
            Files.writeString(file, whole);
            whole.lines().forEach(line -> done.add(line.substring(0, line.indexOf(' '))));
        }
        effects = new FileOutputStream(file.toFile(), true);
    }

    public static void main(String[] words) throws IOException {
        Receiver receiver = new Receiver(System.getenv("ORDERSYNC_FORWARD__SECRET"), Path.of(words[1]));
        InetAddress here = InetAddress.getLoopbackAddress();
        HttpServer server = HttpServer.create(new InetSocketAddress(here, Integer.parseInt(words[0])), 0);
        server.createContext("/events", receiver::handle);
        server.start();
        System.out.println("listening on " + server.getAddress().getPort());
    }

    private void handle(HttpExchange exchange) throws IOException {
        byte[] body = exchange.getRequestBody().readNBytes(LARGEST);
        int status;
        try {
            status = isSigned(exchange, body) ? apply(header(exchange, "webhook-id"), body) : 401;
        } catch (IOException | GeneralSecurityException | RuntimeException error) {
            System.err.println(error);
            status = 500; // is sent again
        }
        exchange.sendResponseHeaders(status, -1);
        exchange.close();
    }

    // The effect, here a line in a file, and the id of the event are stored together: both or nothing. In a database: one
    // transaction. Another request with the same id changes nothing, and is answered with 2xx as well.
    private synchronized int apply(String id, byte[] event) throws IOException {
        if (!done.contains(id)) {
            String line = id + " " + new String(event, StandardCharsets.UTF_8) + "\n";
            effects.write(line.getBytes(StandardCharsets.UTF_8));
            effects.getFD().sync();
            done.add(id);
        }
        return 204;
    }

    private boolean isSigned(HttpExchange exchange, byte[] body) throws GeneralSecurityException {
        String timestamp = header(exchange, "webhook-timestamp");
        if (Math.abs(System.currentTimeMillis() / 1000 - Long.parseLong(timestamp)) > TOLERANCE) {
            return false;
        }
        String head = header(exchange, "webhook-id") + "." + timestamp + ".";
        for (byte[] key : keys) {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            mac.update(head.getBytes(StandardCharsets.UTF_8));
            byte[] expected = Base64.getEncoder().encode(mac.doFinal(body));
            for (String signature : header(exchange, "webhook-signature").split(" ")) {
                byte[] given = signature.replaceFirst("^v1,", "").getBytes(StandardCharsets.UTF_8);
                if (MessageDigest.isEqual(expected, given)) {
                    return true;
                }
            }
        }
        return false;
    }

    private static String header(HttpExchange exchange, String name) {
        String value = exchange.getRequestHeaders().getFirst(name);
        return value == null ? "" : value;
    }
}
