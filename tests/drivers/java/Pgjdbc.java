// The ways of pgjdbc: Pgjdbc COLUMNS.json THROUGH PLAIN. Run from its source: java -cp postgresql.jar Pgjdbc.java ...

import java.io.StringReader;
import java.io.StringWriter;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.postgresql.PGConnection;

final class Pgjdbc {
    record Column(String name, String type, boolean searched, List<String> values) {
        boolean isJson() {
            return type.startsWith("json");
        }
    }

    @FunctionalInterface
    interface Way {
        Object run(Connection connection) throws Exception;
    }

    private final List<Column> columns;
    private final String list;
    private final String select;
    private final String insert;
    private final int rows;
    private final Map<String, String> options = new LinkedHashMap<>();
    private final Map<String, Way> ways = new LinkedHashMap<>();

    Pgjdbc(List<Column> columns) {
        this.columns = columns;
        list = String.join(", ", columns.stream().map(Column::name).toList());
        select = "SELECT id, " + list + " FROM every ORDER BY id";
        insert = "INSERT INTO every (id, " + list + ") VALUES (?" + ", ?".repeat(columns.size()) + ")";
        rows = columns.stream().mapToInt(column -> column.values().size()).max().orElse(0);
        way("literals", "", this::literals);
        way("described results", "", this::described);
        way("parameters", "", this::parameters);
        way("parameters as strings (stringtype=unspecified)", "stringtype=unspecified", this::strings);
        way("server-prepared (prepareThreshold=1)", "prepareThreshold=1", this::prepared);
        way("binary transfer (prepareThreshold=-1)", "prepareThreshold=-1", this::prepared);
        way("no binary transfer", "prepareThreshold=1&binaryTransfer=false", this::prepared);
        way("preferQueryMode=simple", "preferQueryMode=simple", this::prepared);
        way("preferQueryMode=extendedCacheEverything", "preferQueryMode=extendedCacheEverything", this::prepared);
        way("parameter types", "", this::parameterTypes);
        way("batch", "", this::batch);
        way("batch (reWriteBatchedInserts)", "reWriteBatchedInserts=true", this::batch);
        way("batch of literals", "", this::batchOfLiterals);
        way("getGeneratedKeys", "", this::generatedKeys);
        way("getGeneratedKeys of a batch", "reWriteBatchedInserts=true", this::generatedKeysOfBatch);
        way("fetch size (portal)", "defaultRowFetchSize=2", this::select);
        way("fetch size, binary", "defaultRowFetchSize=2&prepareThreshold=-1", this::select);
        way("scrollable result", "", this::scrollable);
        way("updatable result", "", this::updatable);
        way("DatabaseMetaData", "", this::metadata);
        way("COPY out", "", this::copyOut);
        way("COPY in", "", this::copyIn);
        way("= parameter", "", connection -> equality(connection, " = ?"));
        way("IN", "", connection -> equality(connection, " IN (?, ?)"));
        way("= ANY(array)", "", this::anyOfAnArray);
        way("NULLs", "", this::nulls);
        way("several statements in one string", "", this::several);
        way("savepoints", "", this::savepoints);
        way("autosave=always", "autosave=always", this::savepoints);
        way("SQLSTATE of bad input", "stringtype=unspecified", this::badInput);
        way("SQLSTATE of a duplicate", "", this::duplicate);
        way("SQLSTATE of a duplicate in a batch", "reWriteBatchedInserts=true", this::duplicateInBatch);
    }

    private void way(String name, String with, Way way) {
        options.put(name, with);
        ways.put(name, way);
    }

    private List<Column> searched() {
        return columns.stream().filter(Column::searched).toList();
    }

    private String insertLiterals(int row, int id) {
        List<String> values = new ArrayList<>();
        for (Column column : columns) {
            String value = column.values().get(row % column.values().size());
            values.add("E'" + value.replace("\\", "\\\\").replace("'", "''") + "'");
        }
        return "INSERT INTO every (id, " + list + ") VALUES (" + id + ", " + String.join(", ", values) + ")";
    }

    private void fill(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (int row = 0; row < rows; row++) {
                statement.executeUpdate(insertLiterals(row, row));
            }
            statement.executeUpdate("INSERT INTO every (id) VALUES (99)");
        }
    }

    /** The rows as the driver's own objects, and nothing left in the table. */
    private List<List<Object>> natives(Connection connection) throws SQLException {
        fill(connection);
        List<List<Object>> found = read(connection, select);
        execute(connection, "DELETE FROM every");
        return found;
    }

    private static void execute(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    private static List<List<Object>> read(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int at = 0; at < values.length; at++) {
                statement.setObject(at + 1, values[at]);
            }
            return objects(statement.executeQuery());
        }
    }

    private static List<List<Object>> objects(ResultSet result) throws SQLException {
        List<List<Object>> found = new ArrayList<>();
        while (result.next()) {
            found.add(row(result));
        }
        return found;
    }

    private static List<Object> row(ResultSet result) throws SQLException {
        List<Object> row = new ArrayList<>();
        for (int at = 1; at <= result.getMetaData().getColumnCount(); at++) {
            row.add(result.getObject(at));
        }
        return row;
    }

    private Object literals(Connection connection) throws SQLException {
        fill(connection);
        try (Statement statement = connection.createStatement()) {
            ResultSet result = statement.executeQuery(select);
            List<Object> found = new ArrayList<>();
            while (result.next()) {
                for (int at = 1; at <= columns.size() + 1; at++) {
                    found.add(Arrays.asList(result.getString(at), result.getObject(at)));
                }
            }
            return found;
        }
    }

    private Object described(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(select)) {
            List<Object> found = new ArrayList<>();
            ResultSetMetaData before = statement.getMetaData();
            for (ResultSetMetaData about : List.of(before, statement.executeQuery().getMetaData())) {
                for (int at = 1; at <= about.getColumnCount(); at++) {
                    found.add(List.of(
                        about.getColumnLabel(at), about.getColumnType(at), about.getColumnTypeName(at), about.getColumnClassName(at),
                        about.getPrecision(at), about.getScale(at), about.getColumnDisplaySize(at), about.isSigned(at),
                        about.isNullable(at), about.isAutoIncrement(at), about.isCaseSensitive(at), about.getTableName(at)));
                }
            }
            return found;
        }
    }

    private void bind(PreparedStatement statement, List<Object> row) throws SQLException {
        statement.setObject(1, row.get(0));
        for (int at = 0; at < columns.size(); at++) {
            Object value = row.get(at + 1);
            if (value == null) {
                statement.setNull(at + 2, Types.NULL);
            } else {
                statement.setObject(at + 2, value);
            }
        }
    }

    private Object parameters(Connection connection) throws SQLException {
        for (List<Object> row : natives(connection)) {
            try (PreparedStatement statement = connection.prepareStatement(insert)) {
                bind(statement, row);
                statement.executeUpdate();
            }
        }
        return read(connection, select);
    }

    private Object strings(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(insert)) {
            for (int row = 0; row < rows; row++) {
                statement.setInt(1, row);
                for (int at = 0; at < columns.size(); at++) {
                    List<String> values = columns.get(at).values();
                    statement.setString(at + 2, values.get(row % values.size()));
                }
                statement.executeUpdate();
            }
        }
        return read(connection, select);
    }

    private Object prepared(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        try (PreparedStatement write = connection.prepareStatement(insert)) {
            for (List<Object> row : natives(connection)) {
                bind(write, row);
                found.add(write.executeUpdate());
            }
        }
        try (PreparedStatement one = connection.prepareStatement("SELECT " + list + " FROM every WHERE id = ?")) {
            for (int n = 0; n < 8; n++) {
                one.setInt(1, n % rows);
                found.add(objects(one.executeQuery()));
            }
        }
        return found;
    }

    private Object parameterTypes(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        List<String> texts = new ArrayList<>(List.of(insert));
        searched().forEach(column -> texts.add("SELECT id FROM every WHERE " + column.name() + " = ?"));
        for (String text : texts) {
            try (PreparedStatement statement = connection.prepareStatement(text)) {
                ParameterMetaData about = statement.getParameterMetaData();
                for (int at = 1; at <= about.getParameterCount(); at++) {
                    found.add(List.of(about.getParameterType(at), about.getParameterTypeName(at), about.getParameterClassName(at)));
                }
            }
        }
        return found;
    }

    private Object batch(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(insert)) {
            int id = 0;
            List<List<Object>> given = natives(connection);
            for (int round = 0; round < 3; round++) {
                for (List<Object> row : given) {
                    row.set(0, id++);
                    bind(statement, row);
                    statement.addBatch();
                }
            }
            int[] counts = statement.executeBatch();
            return List.of(Arrays.toString(counts), read(connection, select));
        }
    }

    private Object batchOfLiterals(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (int id = 0; id < 6; id++) {
                statement.addBatch(insertLiterals(id % rows, id));
            }
            statement.addBatch("UPDATE every SET c7 = 'of a batch' WHERE id = 3");
            statement.addBatch("DELETE FROM every WHERE id = 4");
            int[] counts = statement.executeBatch();
            return List.of(Arrays.toString(counts), read(connection, select));
        }
    }

    private Object generatedKeys(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate(insertLiterals(0, 0), Statement.RETURN_GENERATED_KEYS);
            found.add(objects(statement.getGeneratedKeys()));
            statement.executeUpdate(insertLiterals(1, 1), new String[] {"id", "c7", "c11"});
            found.add(objects(statement.getGeneratedKeys()));
        }
        return found;
    }

    private Object generatedKeysOfBatch(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
            for (List<Object> row : natives(connection)) {
                bind(statement, row);
                statement.addBatch();
            }
            statement.executeBatch();
            return objects(statement.getGeneratedKeys());
        }
    }

    private Object select(Connection connection) throws SQLException {
        natives(connection);
        for (int id = 0; id < 9; id++) {
            execute(connection, insertLiterals(id % rows, id));
        }
        List<Object> found = new ArrayList<>();
        for (int round = 0; round < 3; round++) {
            found.add(read(connection, select));
        }
        return found;
    }

    private Object scrollable(Connection connection) throws SQLException {
        fill(connection);
        try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)) {
            ResultSet result = statement.executeQuery(select);
            List<Object> found = new ArrayList<>();
            found.add(result.last() ? row(result) : "none");
            found.add(result.absolute(2) ? row(result) : "none");
            found.add(result.previous() ? row(result) : "none");
            return found;
        }
    }

    private Object updatable(Connection connection) throws SQLException {
        List<List<Object>> given = natives(connection);
        fill(connection);
        List<Object> found = new ArrayList<>();
        try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_SENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet result = statement.executeQuery(select);
            result.next();
            result.updateString("c7", "updated in place");
            result.updateObject("c11", given.get(1).get(12));
            result.updateRow();
            found.add(row(result));
            result.refreshRow();
            found.add(row(result));
            result.moveToInsertRow();
            result.updateInt("id", 50);
            result.updateString("c7", "inserted in place");
            result.insertRow();
            result.moveToCurrentRow();
            result.next();
            result.deleteRow();
        }
        found.add(read(connection, select));
        return found;
    }

    /** What it says of the table's shape: names, order, keys. Its column types are the domains; tests/stories shows them. */
    private Object metadata(Connection connection) throws SQLException {
        DatabaseMetaData about = connection.getMetaData();
        List<Object> found = new ArrayList<>();
        for (ResultSet result : List.of(
            about.getTables(null, "public", "every", null), about.getPrimaryKeys(null, "public", "every"))) {
            for (List<Object> row : objects(result)) {
                found.add(row.subList(1, 4));
            }
        }
        for (List<Object> row : objects(about.getColumns(null, "public", "every", "%"))) {
            found.add(List.of(row.get(3), row.get(10), row.get(16), row.get(17)));
        }
        return found;
    }

    private Object copyOut(Connection connection) throws Exception {
        fill(connection);
        List<Object> found = new ArrayList<>();
        for (String text : List.of("COPY every TO STDOUT", "COPY (" + select + ") TO STDOUT WITH (FORMAT csv, HEADER)")) {
            StringWriter out = new StringWriter();
            connection.unwrap(PGConnection.class).getCopyAPI().copyOut(text, out);
            found.add(out.toString().lines().sorted().toList());
        }
        return found;
    }

    private Object copyIn(Connection connection) throws Exception {
        fill(connection);
        StringWriter out = new StringWriter();
        connection.unwrap(PGConnection.class).getCopyAPI().copyOut("COPY every TO STDOUT", out);
        execute(connection, "DELETE FROM every");
        long count = connection.unwrap(PGConnection.class).getCopyAPI().copyIn("COPY every FROM STDIN", new StringReader(out.toString()));
        return List.of(count, read(connection, select));
    }

    private Object equality(Connection connection, String test) throws SQLException {
        fill(connection);
        List<Object> found = new ArrayList<>();
        List<List<Object>> given = read(connection, select);
        for (Column column : searched()) {
            int at = columns.indexOf(column) + 1;
            for (int row = 0; row < rows; row++) {
                Object value = given.get(row).get(at);
                Object other = given.get((row + 1) % rows).get(at);
                Object[] values = test.contains(", ?") ? new Object[] {value, other} : new Object[] {value};
                found.add(List.of(column.name(), read(connection, "SELECT id FROM every WHERE " + column.name() + test + " ORDER BY id", values)));
            }
        }
        return found;
    }

    private Object anyOfAnArray(Connection connection) throws SQLException {
        fill(connection);
        List<Object> found = new ArrayList<>();
        List<List<Object>> given = read(connection, select);
        for (Column column : searched()) {
            int at = columns.indexOf(column) + 1;
            Object[] values = given.stream().limit(rows - 1).map(row -> row.get(at)).toArray();
            String element = column.type().replaceAll("\\(.*", "").replaceAll("^char$", "bpchar");
            if (column.isJson()) {
                values = Arrays.stream(values).map(String::valueOf).toArray();
            } else if (values[0] instanceof byte[]) {
                values = Arrays.copyOf(values, values.length, byte[][].class);
            }
            Object array = connection.createArrayOf(element, values);
            found.add(List.of(column.name(), read(connection, "SELECT id FROM every WHERE " + column.name() + " = ANY (?) ORDER BY id", array)));
        }
        return found;
    }

    private Object nulls(Connection connection) throws SQLException {
        fill(connection);
        List<Object> found = new ArrayList<>();
        for (Column column : columns) {
            try (PreparedStatement statement = connection.prepareStatement("UPDATE every SET " + column.name() + " = ? WHERE id = 0")) {
                statement.setNull(1, Types.NULL);
                found.add(statement.executeUpdate());
            }
            found.add(read(connection, "SELECT id FROM every WHERE " + column.name() + " IS NULL ORDER BY id"));
        }
        return found;
    }

    private Object several(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        try (Statement statement = connection.createStatement()) {
            boolean rowsNext = statement.execute(insertLiterals(0, 0) + "; " + select + "; SELECT c7 FROM every WHERE id = 0");
            while (rowsNext || statement.getUpdateCount() != -1) {
                found.add(rowsNext ? objects(statement.getResultSet()) : statement.getUpdateCount());
                rowsNext = statement.getMoreResults();
            }
        }
        return found;
    }

    private Object savepoints(Connection connection) throws SQLException {
        fill(connection);
        Savepoint before = connection.setSavepoint();
        execute(connection, "DELETE FROM every");
        connection.rollback(before);
        List<Object> found = new ArrayList<>(read(connection, select));
        Savepoint again = connection.setSavepoint();
        found.add(state(() -> execute(connection, insertLiterals(0, 0))));
        connection.rollback(again);
        found.add(read(connection, select));
        return found;
    }

    private Object badInput(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        for (Column column : columns) {
            Savepoint before = connection.setSavepoint();
            found.add(List.of(column.name(), state(() -> {
                try (PreparedStatement statement = connection.prepareStatement("INSERT INTO every (id, " + column.name() + ") VALUES (1, ?)")) {
                    statement.setString(1, "not a " + column.type() + " at all");
                    statement.executeUpdate();
                }
            })));
            connection.rollback(before);
        }
        return found;
    }

    private Object duplicate(Connection connection) throws SQLException {
        fill(connection);
        execute(connection, insertLiterals(0, 70));
        return "took it";
    }

    private Object duplicateInBatch(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(insert)) {
            for (int round = 0; round < 2; round++) {
                for (List<Object> row : natives(connection)) {
                    row.set(0, (Integer) row.get(0) + 100 * round);
                    bind(statement, row);
                    statement.addBatch();
                }
            }
            return Arrays.toString(statement.executeBatch());
        } catch (BatchUpdateException error) {
            return List.of(error.getSQLState(), Arrays.toString(error.getUpdateCounts()));
        }
    }

    @FunctionalInterface
    interface Action {
        void run() throws SQLException;
    }

    private static String state(Action action) {
        try {
            action.run();
            return "took it";
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    /** Values with their Java types: 1 is not "1". */
    private static String settled(Object value) {
        if (value instanceof List<?> list) {
            return list.stream().map(Pgjdbc::settled).toList().toString();
        }
        if (value instanceof byte[] bytes) {
            return "bytes " + Arrays.toString(bytes);
        }
        return value == null ? "null" : value.getClass().getSimpleName() + " " + value;
    }

    private static Connection connect(String url, String with) throws Exception {
        URI uri = URI.create(url);
        String[] login = uri.getUserInfo().split(":");
        String address = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath() + "?" + with;
        Connection connection = DriverManager.getConnection(address, login[0], login[1]);
        connection.setAutoCommit(false);
        return connection;
    }

    private static String outcome(String url, String with, Way way) throws Exception {
        try (Connection connection = connect(url, with)) {
            try {
                return settled(way.run(connection));
            } catch (SQLException error) {
                return "raised " + Objects.requireNonNullElse(error.getSQLState(), error.toString());
            } finally {
                connection.rollback();
            }
        }
    }

    private void judge(String name, String through, String plain) {
        String verdict = "WRONG: " + through + " instead of " + plain;
        if (through.equals(plain)) {
            verdict = "same";
        } else if (Set.of("raised 0A000", "raised PV001", "raised PV003").contains(through)) {
            verdict = "refused with " + through.substring("raised ".length());
        }
        System.out.println(name + ": " + verdict.replace('\n', ' '));
    }

    /** The plain server reads the list of columns, so that nothing here parses JSON. */
    private static List<Column> columns(Path file, String url) throws Exception {
        String text = "SELECT 'c' || (ordinality - 1), item ->> 'type', (item ->> 'search')::bool,"
            + " ARRAY(SELECT jsonb_array_elements_text(item -> 'values'))"
            + " FROM jsonb_array_elements(?::jsonb) WITH ORDINALITY AS listed (item) ORDER BY ordinality";
        List<Column> found = new ArrayList<>();
        try (Connection connection = connect(url, ""); PreparedStatement statement = connection.prepareStatement(text)) {
            statement.setString(1, Files.readString(file));
            ResultSet result = statement.executeQuery();
            while (result.next()) {
                List<String> values = List.of((String[]) result.getArray(4).getArray());
                found.add(new Column(result.getString(1), result.getString(2), result.getBoolean(3), values));
            }
        }
        return found;
    }

    public static void main(String[] given) throws Exception {
        Pgjdbc program = new Pgjdbc(columns(Path.of(given[0]), given[2]));
        for (Map.Entry<String, Way> entry : program.ways.entrySet()) {
            String with = program.options.get(entry.getKey());
            String through = outcome(given[1], with, entry.getValue());
            program.judge(entry.getKey(), through, outcome(given[2], with, entry.getValue()));
        }
    }
}
